"""Parts of vision transformers: multi-head attention, perceptron and the pre-norm block, on tokens (..., N, C).

LayerNorm's epsilon, GELU's form and the initialisation are stated, since libraries differ in them.  No dropout.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError
from jaxstroke.models.nn.precision import at_least_float32

# Normal of 0.02: the truncation that public implementations name, at 2 in absolute terms, never happens.
TOKEN_KERNEL = nn.initializers.normal(0.02)


class LayerNorm(nn.Module):
    """Layer normalisation over channels, epsilon 1e-5, statistics in float32."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)


class Linear(nn.Module):
    """A linear layer on the last axis."""

    features: int
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(
            self.features, use_bias=self.use_bias, kernel_init=TOKEN_KERNEL, dtype=self.dtype, name="dense"
        )(x)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d) + bias) v over all tokens, in `heads` parts: (..., N, C) -> (..., N, C).

    `qkv` makes queries, keys and values at once, in this order, each head by head.  `bias`, where given, is added to
    the scores and broadcasts to (..., heads, N, N).  The softmax is in float32.
    """

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array | None = None) -> jax.Array:
        *lead, tokens, channels = x.shape
        if channels % self.heads:
            raise UserError(
                f"{channels} channels cannot be shared among {self.heads} attention heads: change model.width"
            )
        depth = channels // self.heads
        qkv = Linear(3 * channels, dtype=self.dtype, name="qkv")(x).reshape(*lead, tokens, 3, self.heads, depth)
        query, key, value = (qkv[..., part, :, :] for part in range(3))
        scores = at_least_float32(jnp.einsum("...qhd,...khd->...hqk", query * depth**-0.5, key))
        if bias is not None:
            scores = scores + bias
        weights = nn.softmax(scores, axis=-1)
        self.sow("intermediates", "weights", weights)
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights.astype(value.dtype), value)
        return Linear(channels, dtype=self.dtype, name="project")(mixed.reshape(*lead, tokens, channels))


class Perceptron(nn.Module):
    """Linear - GELU (exact) - linear, back to the channels of the input."""

    hidden: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        x = nn.gelu(Linear(self.hidden, dtype=self.dtype, name="widen")(x), approximate=False)
        return Linear(channels, dtype=self.dtype, name="narrow")(x)


class TransformerBlock(nn.Module):
    """z' = z + Attention(LN(z)); z'' = z' + Perceptron(LN(z')), on tokens (B, N, C)."""

    heads: int
    hidden: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        normalised = LayerNorm(self.dtype, name="norm1")(x)
        x = x + Attention(self.heads, self.dtype, name="attention")(normalised)
        normalised = LayerNorm(self.dtype, name="norm2")(x)
        return x + Perceptron(self.hidden, self.dtype, name="perceptron")(normalised)
