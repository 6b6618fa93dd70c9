"""A convolutional long short-term memory, and the walk through a clip's slices with it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.blocks import Convolution
from jaxstroke.models.nn.precision import at_least_float32

FORGET_BIAS = 1.0  # a new memory keeps what it has (Jozefowicz et al., ICML 2015)


@flax.struct.dataclass
class LSTMState:
    """What is carried from slice to slice, each (B, H, W, features), float32."""

    hidden: jax.Array
    cell: jax.Array


def _gate_bias(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Zeros, and `FORGET_BIAS` for the forget gates, which are the second quarter."""
    del key
    features = shape[0] // 4
    return jnp.zeros(shape, dtype).at[features : 2 * features].set(FORGET_BIAS)


class ConvLSTMCell(nn.Module):
    """One step (Shi et al., NeurIPS 2015, without peepholes); * is a 3 x 3 convolution with padding 1:

        i, f, o, g = split(W * [x, h] + b)
        c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c')

    Maps (state, (x, valid)) to (state', h') for x (B, H, W, C), valid (B,) bool.  Where a slice is not valid the state
    stays as it is.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, state: LSTMState, inputs: tuple[jax.Array, jax.Array]) -> tuple[LSTMState, jax.Array]:
        x, valid = inputs
        seen = jnp.concatenate([at_least_float32(x), state.hidden], axis=-1)
        gates = Convolution(4 * self.features, (3, 3), padding=1, bias_init=_gate_bias, dtype=self.dtype, name="gates")(
            seen
        )
        write, forget, show, new = jnp.split(at_least_float32(gates), 4, axis=-1)
        cell = nn.sigmoid(forget) * state.cell + nn.sigmoid(write) * jnp.tanh(new)
        hidden = nn.sigmoid(show) * jnp.tanh(cell)
        keep = valid[:, None, None, None]
        return LSTMState(jnp.where(keep, hidden, state.hidden), jnp.where(keep, cell, state.cell)), hidden

    def initial(self, batch: int, height: int, width: int) -> LSTMState:
        """Zeros: nothing seen yet."""
        zeros = jnp.zeros((batch, height, width, self.features))
        return LSTMState(zeros, zeros)


def walk(cell: ConvLSTMCell, state: LSTMState, maps: jax.Array, valid: jax.Array) -> tuple[LSTMState, jax.Array]:
    """Steps through maps (B, T, H, W, C), valid (B, T); returns the last state, and h' of every step with T second."""
    scan = nn.scan(
        ConvLSTMCell.__call__,
        variable_broadcast="params",
        split_rngs={"params": False},
        in_axes=1,
        out_axes=1,
    )
    return scan(cell, state, (maps, valid))
