"""The JAX network itself as a serialised StableHLO program (`jax.export`), channels last, for three platforms."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from jax import export

from jaxstroke import files
from jaxstroke.exports.check import Runner
from jaxstroke.exports.trained import Arrays, Trained

PLATFORMS = ("cpu", "cuda", "tpu")


def write(path: Path, trained: Trained) -> None:
    """The batch is open; height and width are those of the experiment, which the program is compiled for."""
    size = trained.data.size
    (batch,) = export.symbolic_shape("batch")
    arrays = [np.zeros(trained.image_shape(1, size), np.float32), *trained.initial_memory(1, size)]
    shapes = [jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype) for array in arrays]
    exported = export.export(jax.jit(trained.function), platforms=PLATFORMS)(*shapes)
    files.write_bytes(path, bytes(exported.serialize()))


def load(path: Path) -> Runner:
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)

    def run(inputs: Arrays) -> Arrays:
        return [np.asarray(array) for array in call(*inputs)]

    return run
