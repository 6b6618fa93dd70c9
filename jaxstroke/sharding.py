"""The mesh over the devices of a job, and how a batch and a state are sharded over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxstroke.errors import UserError

DATA_AXIS = "data"


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """One axis over every device, or over these: a batch is split along it, everything else is replicated.

    A process's devices lie side by side, so that its rows of a batch do (`own_rows`); JAX's order for a TPU slice
    follows the links, not the processes.
    """
    count = jax.device_count() if devices is None else len(devices)
    linked = jax.make_mesh((count,), (DATA_AXIS,), devices=devices).devices.flat
    ordered = np.array(sorted(linked, key=lambda device: device.process_index))
    return Mesh(ordered, (DATA_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def local_sharding() -> jax.sharding.Sharding:
    """One device of this process, for what one device does alone."""
    return SingleDeviceSharding(jax.local_devices()[0])


def shard_largest_axis(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Split along the largest axis that the devices divide; replicated where there is none."""
    lengths = [length if length % mesh.size == 0 else 0 for length in shape]
    if not any(lengths):
        return replicated(mesh)
    largest = lengths.index(max(lengths))
    return NamedSharding(mesh, PartitionSpec(*(DATA_AXIS if axis == largest else None for axis in range(len(shape)))))


def check_batch(batch: int, mesh: Mesh, microbatches: int = 1) -> None:
    """A batch goes through in microbatches, each of which is split over all devices."""
    count = mesh.size * microbatches
    if batch % count:
        below = batch // count * count
        sizes = " or ".join(str(size) for size in (below, below + count) if size > 0)
        through = f" in {microbatches} microbatches" if microbatches > 1 else ""
        raise UserError(f"data.batch={batch}: it must divide by the {mesh.size} devices{through}; {sizes} would")


def own_rows(batch: int) -> range:
    """Which rows of a batch this process makes: those that lie on its devices."""
    local, everywhere = jax.local_device_count(), jax.device_count()
    if local * jax.process_count() != everywhere:
        raise UserError(
            f"this process has {local} of {everywhere} devices: every process of a job must have equally many"
        )
    rows = batch // jax.process_count()
    return range(jax.process_index() * rows, (jax.process_index() + 1) * rows)


def to_devices(rows: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Lays this process's rows of a batch on its devices of the mesh, split along the first axis."""
    spread = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(rows, spread)
    return {name: jax.make_array_from_process_local_data(spread, value) for name, value in rows.items()}


def with_shardings(tree: Any, shardings: Any) -> Any:
    """Gives every abstract array of a tree its sharding; one may stand for all."""

    def sharded(leaf: Any, own: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=own)

    return jax.tree.map(sharded, tree, jax.tree.broadcast(shardings, tree))


def split_by_device(array: jax.Array) -> jax.Array:
    """What `to_devices` laid on this process's devices, as pmap takes it: (devices, rows of each, ...)."""
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    own = Mesh(np.array([shard.device for shard in shards]), (DATA_AXIS,))
    rows = [shard.data[None] for shard in shards]
    return jax.make_array_from_single_device_arrays((len(rows), *rows[0].shape[1:]), batch_sharding(own), rows)


def on_local_device(tree: Any) -> Any:
    """A replicated tree, as it lies on one of this process's."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def on_accelerator() -> bool:
    """Whether what is computed runs on anything but a CPU."""
    return jax.default_backend() != "cpu"


def is_one_cpu(mesh: Mesh) -> bool:
    return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


def describe() -> dict[str, Any]:
    """What the computation runs on, for the run folder."""
    first = jax.devices()[0]
    about = {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}
    return {**about, "processes": jax.process_count()}
