"""Weights for tests, drawn from the shapes alone: nothing is compiled, and no bias is zero."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def random_weights(network: nn.Module, *inputs: Any, gain: float = 2.0, **settings: Any) -> dict[str, Any]:
    """The variables of `network` for inputs of these shapes: kernels of variance gain / fan_in, variances of one.

    Biases are positive, so that no ReLU of a narrow network is shut for every pixel.  Residual networks
    want a small gain, or what their blocks add grows until every gate is shut or open.
    """
    shapes = jax.eval_shape(lambda *x: network.init(jax.random.key(0), *x, **settings), *inputs)
    numbers = np.random.default_rng(7)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = path[-1].key
        if name == "kernel":
            values = numbers.normal(size=leaf.shape) * math.sqrt(gain / math.prod(leaf.shape[:-1]))
        elif name in ("var", "scale"):
            values = np.ones(leaf.shape)
        else:
            values = 0.1 * np.abs(numbers.normal(size=leaf.shape))
        return jnp.asarray(values, leaf.dtype)

    wanted = {kind: tree for kind, tree in shapes.items() if kind in ("params", "batch_stats")}
    return jax.tree_util.tree_map_with_path(draw, wanted)
