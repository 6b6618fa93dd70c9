"""What this process computes on: how many of the machine's cores its affinity and its group leave it; their kind."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_DESCRIBED = Path("/proc/cpuinfo")


def usable() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *granted(_GROUPS, _OWN)]))


def kind() -> str:
    """What a core can do: a program that was compiled on one runs on another where this is the same."""
    described = dict.fromkeys(_lines(_DESCRIBED))
    told = [line for line in described if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([platform.machine(), *told])


def granted(groups: Path, own: Path) -> list[int]:
    """Whole cores' worth of time that each control group above this process grants; a part of a core counts as one."""
    found = []
    for group in _above(groups, own):
        first = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")  # by the first version
        for words in (_words(group / "cpu.max"), first):
            if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
                found.append(-(-int(words[0]) // int(words[1])))
    return found


def _above(groups: Path, own: Path) -> list[Path]:
    """The folders of this process's groups, up to the root; of the first version of groups those that count the CPU."""
    found = []
    for line in _lines(own):
        _, kinds, path = (*line.split(":", 2), "", "")[:3]
        if kinds == "" or "cpu" in kinds.split(","):
            root = groups / kinds if kinds else groups
            parts = [part for part in path.split("/") if part not in ("", "..")]
            found += [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
