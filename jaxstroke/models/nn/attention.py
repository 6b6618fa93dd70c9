"""Attention: the additive gate of skip connections, and attention between tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.blocks import TORCH_KERNEL, Conv
from jaxstroke.models.nn.norm import BatchNorm
from jaxstroke.models.nn.precision import at_least_float32


class Gated(NamedTuple):
    """What an additive gate gives.

    Attributes:
      features: the gated map x * attention, (B, H, W, C).
      attention: (B, H, W, 1), between 0 and 1.
      similarity: relu(q(g) + k(x)), (B, H, W, inner): the positive similarities that the attention is made of.
    """

    features: jax.Array
    attention: jax.Array
    similarity: jax.Array


class AdditiveGate(nn.Module):
    """x * sigmoid(w(relu(q(g) + k(x)))), with q, k and w 1 x 1 convolutions with bias.

    `g` decides what of `x` passes; both have the same height and width.  Two forms are in use:
    `inner` = the width of x and no normalisation (cross-domain and cascade networks), and `inner` = half of it with
    BatchNorm after q, k and w (`norm=True`, as common implementations of Attention U-Net have it).
    """

    inner: int
    norm: bool = False
    initializer: str = "torch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, g: jax.Array, x: jax.Array, *, train: bool) -> Gated:
        chex.assert_equal_shape_prefix((g, x), 3)
        similarity = nn.relu(self._project(g, self.inner, "query", train) + self._project(x, self.inner, "key", train))
        attention = nn.sigmoid(self._project(similarity, 1, "score", train))
        self.sow("intermediates", "attention", attention)
        return Gated(x * attention, attention, similarity)

    def _project(self, x: jax.Array, features: int, name: str, train: bool) -> jax.Array:
        x = Conv(features, 1, initializer=self.initializer, dtype=self.dtype, name=name)(x)
        if not self.norm:
            return x
        return BatchNorm(self.momentum, self.epsilon, self.axis_name, self.dtype, name=f"{name}_norm")(x, train=train)


def attend(query: jax.Array, key: jax.Array, value: jax.Array, *, scale: float) -> tuple[jax.Array, jax.Array]:
    """softmax(scale * Q K^T) V: (..., N, D), (..., M, D), (..., M, V) -> (..., N, V), and the (..., N, M) weights.

    The softmax is taken in float32 whatever the width of the arithmetic around it.
    """
    logits = at_least_float32(jnp.einsum("...nd,...md->...nm", query, key)) * scale
    weights = nn.softmax(logits, axis=-1)
    return jnp.einsum("...nm,...mv->...nv", weights.astype(value.dtype), value), weights


class NonLocalAttention(nn.Module):
    """x + softmax(q(x) k(y)^T) v(y): a non-local block (Wang et al. 2018), of x on itself (y = x) or on another map.

    x is (B, N, C) and y (B, M, C).  Queries and keys are of width C/8 and there is no scale and no last convolution:
    this is the form whose size meets the figure that MDANet's Table 5 prints.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        chex.assert_rank((x, y), 3)
        width = x.shape[-1]
        query = self._dense(width // 8, "query")(x)
        key = self._dense(width // 8, "key")(y)
        value = self._dense(width, "value")(y)
        update, weights = attend(query, key, value, scale=1.0)
        self.sow("intermediates", "attention", weights)
        return x + update

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, kernel_init=TORCH_KERNEL, dtype=self.dtype, name=name)


class TransformerLayer(nn.Module):
    """x += attention(norm(x), norm(y)); x += mlp(norm(x)): one layer of pre-norm self- (y = x) or cross-attention.

    x is (..., N, C) and y (..., M, C); `mlp_ratio` is the width of the hidden layer, in units of C.
    """

    heads: int
    mlp_ratio: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        chex.assert_equal_rank((x, y))
        width = x.shape[-1]
        norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm1")
        queried, context = norm(x), norm(y)
        query, key, value = (
            self._split(self._dense(width, name)(tokens))
            for name, tokens in (("query", queried), ("key", context), ("value", context))
        )
        update, weights = attend(query, key, value, scale=(width // self.heads) ** -0.5)
        self.sow("intermediates", "attention", weights)
        x = x + self._dense(width, "out")(self._merge(update))
        hidden = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm2")(x)
        hidden = nn.gelu(self._dense(self.mlp_ratio * width, "mlp1")(hidden), approximate=False)
        return x + self._dense(width, "mlp2")(hidden)

    def _split(self, x: jax.Array) -> jax.Array:
        """(..., N, C) -> (..., heads, N, C / heads)."""
        return jnp.swapaxes(x.reshape(*x.shape[:-1], self.heads, -1), -3, -2)

    def _merge(self, x: jax.Array) -> jax.Array:
        x = jnp.swapaxes(x, -3, -2)
        return x.reshape(*x.shape[:-2], -1)

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, kernel_init=TORCH_KERNEL, dtype=self.dtype, name=name)
