"""The cores that a process may use, by its affinity and by the groups above it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from jaxstroke.process import cores


def test_affinity_counts_and_not_the_machine() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system knows no affinity")
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    program = one + "from jaxstroke.process import cores; print(cores.usable())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({"job/cpu.max": "200000 100000\n"}, "0::/job\n", [2]),
        ({"job/cpu.max": "150000 100000\n"}, "0::/job\n", [2]),  # a half is one more thread
        ({"cpu.max": "400000 100000", "job/step/cpu.max": "max 100000"}, "0::/job/step\n", [4]),  # only above
        ({"cpu,cpuacct/job/cpu.cfs_quota_us": "300000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"},
         "4:memory:/job\n3:cpu,cpuacct:/job\n", [3]),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/\n", []),  # no limit
        ({"job/cpu.max": "nonsense"}, "0::/job\n", []),
        ({}, "0::/../elsewhere\nwhat is this", []),
    ],
)  # fmt: skip
def test_groups(tmp_path: Path, files: dict[str, str], own: str, expected: list[int]) -> None:
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    assert cores.granted(tmp_path / "groups", tmp_path / "own") == expected


def test_where_nothing_is_known_there_is_a_core(tmp_path: Path) -> None:
    assert cores.granted(tmp_path, tmp_path / "none") == [] and cores.usable() >= 1


def test_cores_that_can_do_the_same_are_of_one_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the system says of them: how fast a core runs just now, and how many there are."""
    described = tmp_path / "cpuinfo"
    monkeypatch.setattr(cores, "_DESCRIBED", described)

    def kind(text: str) -> str:
        described.write_text(text)
        return cores.kind()

    core = "processor: {}\nmodel name: A\ncpu MHz: {}\nflags: avx {}\n"
    one = kind(core.format(0, 2100, "avx2"))
    assert kind(core.format(0, 2100, "avx2") + core.format(1, 900, "avx2")) == one
    assert kind(core.format(0, 2100, "avx512f")) != one
    assert kind(core.format(0, 2100, "avx2").replace("A", "B", 1)) != one
    described.unlink()
    assert cores.kind() == platform.machine()
