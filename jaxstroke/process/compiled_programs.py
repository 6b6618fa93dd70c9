"""Compiled programs are kept from one start of the process to the next, and what a killed one left is mended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jaxstroke import console, user_cache
from jaxstroke.process import jax_internals


def keep() -> None:
    """Lets a second start of the same program skip its compilation; a folder set by the user is left alone."""
    import jax

    if not jax.config.values["jax_compilation_cache_dir"]:
        remove_half_written(user_cache.folder() / "compiled")
        jax.config.update("jax_compilation_cache_dir", str(user_cache.folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def remove_half_written(folder: Path) -> None:
    """Removes what a process was killed in the middle of writing: JAX would complain at every start and never mend it.

    Only what is as new as the newest of the last look is read: all of it would take too long.
    """
    mark = folder / ".looked"
    with contextlib.suppress(OSError):
        looked_ns = mark.stat().st_mtime_ns if mark.exists() else 0
        written_ns = {path: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
        for path in written_ns:
            if written_ns[path] >= looked_ns and unpacked(path.read_bytes()) is None:
                console.say(f"{path}: it is damaged, and removed; this program is compiled again")
                path.unlink(missing_ok=True)
        newest_ns = max(written_ns.values(), default=looked_ns)
        mark.touch()
        os.utime(mark, ns=(newest_ns, newest_ns))


def unpacked(program: bytes) -> bytes | None:
    """A compiled program as JAX reads it from its file; None where it is damaged."""
    try:
        return jax_internals.decompress_executable(program)
    except Exception:  # zlib's or zstandard's own
        return None
