"""Devices, memory and who hands it out, threads, the cache, the data, the compiler's settings: each by itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxstroke import compiler, user_cache
from jaxstroke.data.layouts import detect_layout
from jaxstroke.data.source import ENVIRONMENT
from jaxstroke.diagnosis import gradient, versions
from jaxstroke.diagnosis.finding import Finding
from jaxstroke.errors import UserError
from jaxstroke.phantoms.marker import phantom_facts
from jaxstroke.process import cores

_GB = 1e9
_LEAST_MEMORY_GB = 4.0
_LEAST_FREE_GB = 5.0
_THAT_KEEP = ("jemalloc", "tcmalloc")  # libraries that hand out memory, and can keep what comes back


def findings(data: str | None = None) -> Iterator[Finding]:
    """Everything, the slow last; `data` is a folder to look for studies in."""
    yield versions.versions(versions.installed_versions(), versions.tested_versions())
    yield versions.extras()
    yield settings()
    yield threads()
    yield memory()
    yield cache(user_cache.folder())
    yield studies(data or os.environ.get(ENVIRONMENT), named_by="--data" if data else ENVIRONMENT)
    yield devices()
    yield allocator(Path("/proc/self/maps"))
    yield gradient.gradient()


def settings() -> Finding:
    """What XLA is told, and by whom."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    given = {flag.partition("=")[0]: flag.partition("=")[2] for flag in flags}
    undone = [name for name, value in compiler.SETTINGS.items() if given.get(name) != value]
    facts = {"XLA_FLAGS": flags, "ours": dict(compiler.SETTINGS)}
    told = f"XLA_FLAGS={' '.join(flags)}"
    if undone:
        remedy = f"take {undone[0]} out of XLA_FLAGS: with these fusions sums were wrong on jaxlib 0.10.2"
        return Finding("XLA", "problem", told, remedy, facts)
    why = "YNNPACK's fusions are off: they are wrong on jaxlib 0.10.2 and slow to 0.12"
    return Finding("XLA", "ok", f"{told} ({why})", facts=facts)


def threads() -> Finding:
    usable = cores.usable()
    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ}
    told = f"{usable} of {os.cpu_count()} CPU cores may be used" + "".join(f", {n}={v}" for n, v in limits.items())
    facts = {"usable": usable, "cores": os.cpu_count(), "limits": limits}
    if usable < (os.cpu_count() or 1):
        return Finding("threads", "note", told, "ask the scheduler for more cores, or lift taskset", facts)
    return Finding("threads", "ok", told, facts=facts)


def memory() -> Finding:
    """What may still be taken: of the machine, or of the container where that is less."""
    free = _available_bytes()
    if free is None:
        return Finding("memory", "note", "it cannot be told on this system", "look at the system's own monitor")
    told, facts = f"{free / _GB:.1f} GB of memory are free", {"free_bytes": free}
    if free < _LEAST_MEMORY_GB * _GB:
        return Finding("memory", "note", told, "train with --scale small, or --set data.batch=1", facts)
    return Finding("memory", "ok", told, facts=facts)


def _available_bytes() -> int | None:
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        return None
    try:
        most = int(Path("/sys/fs/cgroup/memory.max").read_text())
        found.append(most - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        pass
    return min(found, default=None)


def cache(folder: Path) -> Finding:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    told = f"{folder}: {size / _GB:.2f} GB, {free / _GB:.1f} GB free beside it"
    facts = {"folder": str(folder), "bytes": size, "free_bytes": free}
    if not os.access(there, os.W_OK):
        return Finding(
            "cache", "problem", f"{told}; it cannot be written", "set JAXSTROKE_CACHE to another folder", facts
        )
    if free < _LEAST_FREE_GB * _GB:
        return Finding("cache", "note", told, f"free space, delete {folder}, or set JAXSTROKE_CACHE", facts)
    return Finding("cache", "ok", told, facts=facts)


def studies(folder: str | None, *, named_by: str) -> Finding:
    """The data that a training would find without being told more."""
    if not folder:
        told = f"none: neither --data nor {ENVIRONMENT} names a folder, so a phantom would be used"
        return Finding("data", "note", told, f"set {ENVIRONMENT} to your data set's folder, or give --data PATH")
    facts = {"folder": folder, "named_by": named_by}
    try:
        layout = detect_layout(Path(folder))
        count = len(layout.find(Path(folder)))
    except UserError as error:
        return Finding(
            "data", "problem", f"{error} (named by {named_by})", "docs/data.md says how files must lie", facts
        )
    phantom = " (phantom)" if phantom_facts(Path(folder)) is not None else ""
    told = f"{folder}: {count} studies of {layout.title}{phantom}, named by {named_by}"
    return Finding("data", "ok", told, facts={**facts, "layout": layout.name, "studies": count})


def devices() -> Finding:
    import jax

    try:
        found = jax.devices()
    except RuntimeError as error:
        told = f"JAX finds none: {str(error).splitlines()[0]}"
        return Finding("devices", "problem", told, "unset JAX_PLATFORMS, or install .[cuda] or .[tpu]")
    kinds = [device.device_kind for device in found]
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in found]
    room = f" with {limits[0] / _GB:.0f} GB each" if limits[0] else ""
    told = f"{len(found)} x {kinds[0]} ({found[0].platform}){room}"
    facts = {"platform": found[0].platform, "kinds": kinds, "bytes_limit": limits}
    if found[0].platform == "cpu" and shutil.which("nvidia-smi"):
        return Finding(
            "devices", "problem", f"{told}, though there is an NVIDIA driver", "pip install '.[cuda]'", facts
        )
    return Finding("devices", "ok", told, facts=facts)


def allocator(mapped: Path) -> Finding:
    """Who hands out memory, by the libraries that this process has mapped."""
    import jax

    try:
        libraries = mapped.read_text()
    except OSError:
        return Finding("allocator", "ok", "the system's")
    kept_by = next((name for name in _THAT_KEEP if f"/lib{name}" in libraries), "")
    if kept_by:
        return Finding("allocator", "ok", kept_by, facts={"allocator": kept_by})
    told, facts = "the C library's", {"allocator": "libc"}
    if jax.default_backend() != "cpu":
        return Finding("allocator", "ok", told, facts=facts)
    told += ": it gives the memory of each step back to the system, and asks for it anew (docs/performance.md)"
    remedy = (
        "to train a tenth to a sixth sooner on a CPU, install jemalloc (Debian: libjemalloc2) and begin commands with "
        "LD_PRELOAD=libjemalloc.so.2 MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1"
    )
    return Finding("allocator", "note", told, remedy, facts)
