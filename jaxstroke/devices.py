"""The devices of a job, how a batch and a state lie on them, and where compiled programs are kept."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxstroke import console
from jaxstroke.errors import UserError

DATA_AXIS = "data"


def cache_folder() -> Path:
    """Where phantoms, prepared studies and compiled programs are kept: JAXSTROKE_CACHE, or the user's cache folder."""
    named = os.environ.get("JAXSTROKE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxstroke"


def keep_compiled_programs() -> None:
    """Lets a second start of the same program skip its compilation; a folder set by the user is left alone."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        remove_half_written_programs(cache_folder() / "compiled")
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def remove_half_written_programs(folder: Path) -> None:
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
    from jax._src import compilation_cache

    try:
        return compilation_cache.decompress_executable(program)
    except Exception:  # zlib's or zstandard's own
        return None


def mesh() -> Mesh:
    """One axis over every device: the batch is cut along it, everything else is whole on each device.

    A process's devices lie side by side, so that its rows of a batch do (`own_rows`); JAX's order for a TPU slice
    follows the links, not the processes.
    """
    linked = jax.make_mesh((jax.device_count(),), (DATA_AXIS,)).devices.flat
    ordered = np.array(sorted(linked, key=lambda device: device.process_index))
    return Mesh(ordered, (DATA_AXIS,), axis_types=(AxisType.Auto,))


def replicated(over: Mesh) -> NamedSharding:
    return NamedSharding(over, PartitionSpec())


def by_batch(over: Mesh) -> NamedSharding:
    return NamedSharding(over, PartitionSpec(DATA_AXIS))


def here() -> jax.sharding.Sharding:
    """One device of this process, for what one device does alone."""
    return SingleDeviceSharding(jax.local_devices()[0])


def scattered(over: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Cut along the longest axis that the devices divide; whole on each where there is none."""
    lengths = [length if length % over.size == 0 else 0 for length in shape]
    if not any(lengths):
        return replicated(over)
    cut = lengths.index(max(lengths))
    return NamedSharding(over, PartitionSpec(*(DATA_AXIS if axis == cut else None for axis in range(len(shape)))))


def check_batch(batch: int, over: Mesh, parts: int = 1) -> None:
    """A batch goes through in `parts`, and each part is cut over all devices."""
    if parts < 1:
        raise UserError(f"parallel.accumulate={parts}: at least 1 is needed")
    count = over.size * parts
    if batch < 1 or batch % count:
        below = batch // count * count
        sizes = " or ".join(str(size) for size in (below, below + count) if size > 0)
        through = f" in {parts} parts" if parts > 1 else ""
        raise UserError(f"data.batch={batch}: it must divide by the {over.size} devices{through}; {sizes} would")
    local = jax.local_device_count()
    if local * jax.process_count() != over.size:
        raise UserError(
            f"this process has {local} of {over.size} devices: every process of a job must have equally many"
        )


def own_rows(batch: int) -> range:
    """Which rows of a batch this process makes: those that lie on its devices."""
    rows = batch // jax.process_count()
    return range(jax.process_index() * rows, (jax.process_index() + 1) * rows)


def to_devices(rows: dict[str, np.ndarray], over: Mesh) -> dict[str, jax.Array]:
    """Lays this process's rows of a batch on its devices of the mesh, cut along the first axis."""
    cut = by_batch(over)
    if jax.process_count() == 1:
        return jax.device_put(rows, cut)
    return {name: jax.make_array_from_process_local_data(cut, value) for name, value in rows.items()}


def placed(tree: Any, shardings: Any) -> Any:
    """Gives every abstract array of a tree the place where it is to lie; one place may stand for all."""
    places = jax.tree.broadcast(shardings, tree)
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), tree, places)


def by_device(cut: jax.Array) -> jax.Array:
    """What `to_devices` laid on this process's devices, as pmap takes it: (devices, rows of each, ...)."""
    shards = sorted(cut.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    own = Mesh(np.array([shard.device for shard in shards]), (DATA_AXIS,))
    rows = [shard.data[None] for shard in shards]
    return jax.make_array_from_single_device_arrays((len(rows), *rows[0].shape[1:]), by_batch(own), rows)


def on_one(tree: Any) -> Any:
    """A tree that is whole on each device, as it lies on one of this process's."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def describe() -> dict[str, Any]:
    """What the computation runs on, for the run folder."""
    first = jax.devices()[0]
    about = {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}
    return {**about, "processes": jax.process_count()}
