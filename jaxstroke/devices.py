"""The devices of this process, how a batch lies on them, and where compiled programs are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxstroke.errors import UserError

DATA_AXIS = "data"


def cache_folder() -> Path:
    """Where phantoms, prepared studies and compiled programs are kept: JAXSTROKE_CACHE, or the user's cache folder."""
    named = os.environ.get("JAXSTROKE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxstroke"


def keep_compiled_programs() -> None:
    """Lets a second start of the same program skip its compilation; a folder set by the user is left alone."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def mesh() -> Mesh:
    """One axis over every device: the batch is cut along it, everything else is whole on each device."""
    return jax.make_mesh((jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def replicated(over: Mesh) -> NamedSharding:
    return NamedSharding(over, PartitionSpec())


def by_batch(over: Mesh) -> NamedSharding:
    return NamedSharding(over, PartitionSpec(DATA_AXIS))


def check_batch(batch: int, over: Mesh) -> None:
    count = over.size
    if batch % count:
        below = batch // count * count
        sizes = " or ".join(str(size) for size in (below, below + count) if size)
        raise UserError(f"data.batch={batch}: it must divide by the {count} devices; {sizes} would")


def to_devices(batch: dict[str, np.ndarray], over: Mesh) -> dict[str, jax.Array]:
    """Lays a host batch on the mesh, cut along its first axis."""
    return jax.device_put(batch, by_batch(over))


def placed(tree: Any, sharding: NamedSharding) -> Any:
    """Gives every abstract array of a tree the place where it is to lie."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def describe() -> dict[str, Any]:
    """What the computation runs on, for the run folder."""
    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}
