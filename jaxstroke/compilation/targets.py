"""The machines that a step can be compiled for: chips, how they are joined, and what each can do.

Figures are the makers' own, of one chip.  Nothing here is measured.
"""

from __future__ import annotations

import dataclasses
import os
from importlib import util
from typing import TYPE_CHECKING, Any

from jaxstroke.errors import UserError

if TYPE_CHECKING:
    from jax.sharding import Mesh

GIB = 2**30
_MOST_CPUS = 1024


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip does at best.

    Attributes:
      flops: floating point operations a second of its matrix units, on bfloat16.  A float32 product takes one pass of
        bfloat16 as well, unless a higher precision is asked for (docs.jax.dev, "Matmul precision").
      memory_bytes, memory_bandwidth: of its main memory, bytes and bytes a second.
      link_bandwidth: bytes a second that one link to a neighbour carries in one direction.
      ring_length: an axis of the torus is closed to a ring from this length on, else it is a line.
      options: what the compiler is told about the chip.
    """

    name: str
    flops: float
    memory_bytes: int
    memory_bandwidth: float
    link_bandwidth: float
    ring_length: int
    slices: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


CHIPS = {
    # https://cloud.google.com/tpu/docs/v5e: 197 TFLOPs (bf16), 16 GB HBM2 at 819 GBps, 1600 Gbps over 4 links,
    # 2D torus; its slices are closed to rings along axes of 16.
    "v5e": Chip("TPU v5e", 197e12, 16 * GIB, 819e9, 50e9, 16, ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")),
    # https://cloud.google.com/tpu/docs/v4: 275 teraflops (bf16), 32 GiB HBM2 at 1200 GBps, 3D, rings along multiples
    # of 4; 6 links of 50 GB/s: Jouppi et al., "TPU v4", ISCA 2023 (arXiv 2304.01433), table 4.  Its two cores work as
    # one device ("megacore").
    "v4": Chip(
        "TPU v4",
        275e12,
        32 * GIB,
        1200e9,
        50e9,
        4,
        ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
        (("chip_config_name", "megacore"),),
    ),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """`word` as it is typed; `chip` is None for a CPU, of which no peak is known."""

    word: str
    chips: int
    chip: Chip | None = None
    axes: tuple[int, ...] = ()

    @property
    def sending_bandwidth(self) -> float | None:
        """Bytes a second that a chip can send: the links of the chip that has the fewest, at a corner.

        A ring's axis gives every chip two links, a line's axis the chips at its ends one, an axis of 1 none.
        """
        if self.chip is None:
            return None
        links = sum(0 if size == 1 else 2 if size >= self.chip.ring_length else 1 for size in self.axes)
        return links * self.chip.link_bandwidth


def known() -> list[str]:
    return [f"tpu:{name}:{axes}" for name, chip in CHIPS.items() for axes in chip.slices] + ["cpu:N"]


def parse(word: str) -> Target:
    """Reads `tpu:v5e:2x4` or `cpu:8`."""
    platform, _, rest = word.partition(":")
    if platform == "cpu" and rest.isdecimal() and 1 <= int(rest) <= _MOST_CPUS:
        return Target(word, int(rest))
    name, _, axes = rest.partition(":")
    if platform == "tpu" and name in CHIPS and axes in CHIPS[name].slices:
        sizes = tuple(int(size) for size in axes.split("x"))
        count = 1
        for size in sizes:
            count *= size
        return Target(word, count, CHIPS[name], sizes)
    raise UserError(
        f"--target {word}: there is no such target; these exist: {', '.join(known())} (N from 1 to {_MOST_CPUS})"
    )


def prepare(target: Target) -> None:
    """Sets what has to be set before jax is imported: nothing is computed, so no accelerator is taken from anyone."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if target.chip is None:
        flags = [word for word in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in word]
        os.environ["XLA_FLAGS"] = " ".join([*flags, f"--xla_force_host_platform_device_count={target.chips}"])
        return
    if util.find_spec("libtpu") is None:
        raise UserError(
            f"--target {target.word}: the TPU compiler is not installed; pip install 'jaxstroke[tpu]' brings it "
            "(it needs no TPU)"
        )
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # no question to a cloud's metadata server
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # several processes may compile: no chip is taken
    # The library looks for the machine that it is on, and says at length that it is none.
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


_QUIET = {
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_LOG_DIR": "disabled",
}


def mesh(target: Target) -> Mesh:
    """One axis over every chip of the target, as `sharding.make_mesh` gives it over the machine's own."""
    import jax
    import numpy as np
    from jax.sharding import AxisType, Mesh

    from jaxstroke.sharding import DATA_AXIS

    found: Any
    if target.chip is None:
        found = jax.devices("cpu")
    else:
        from jax.experimental import topologies

        name = target.word.partition(":")[2]
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **dict(target.chip.options)).devices
    if len(found) != target.chips:
        raise UserError(f"--target {target.word}: {len(found)} devices are there, not {target.chips}")
    return Mesh(np.asarray(found).reshape(-1), (DATA_AXIS,), axis_types=(AxisType.Auto,))
