"""Batch and group normalisation: the variables and the arithmetic of Flax's, from sums that a CPU computes quickly."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.precision import at_least_float32
from jaxstroke.models.nn.sums import over_pixels, standardised, to_pixels


class BatchNorm(nn.Module):
    """Batch normalisation with explicit constants; `momentum` is Flax's (1 - PyTorch's).

    Statistics are taken over the whole global batch under jit; under `jax.pmap` set `axis_name`.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None = None, *, train: bool) -> jax.Array:
        """`valid` (B, D) says which slices of volumes are there: the statistics are of these alone."""
        return _BatchNorm(self.momentum, self.epsilon, self.axis_name, self.dtype, name="norm")(x, valid, train=train)


class _BatchNorm(nn.Module):
    """As `nn.BatchNorm`, whose mask though gives each device of a `jax.pmap` the same weight, whatever is valid."""

    momentum: float
    epsilon: float
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None, *, train: bool) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones_init(), channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        wide = at_least_float32(x)
        found = self._statistics(wide, valid) if train else (mean.value, var.value)
        if train and not self.is_initializing():
            for kept, new in zip((mean, var), found, strict=True):
                kept.value = self.momentum * kept.value + (1.0 - self.momentum) * new
        factor = jax.lax.rsqrt(found[1] + self.epsilon) * scale
        of_each = (jnp.broadcast_to(one, (x.shape[0], *channels)) for one in (found[0], factor, bias))
        return standardised(wide, *of_each).astype(self.dtype or wide.dtype)

    def _statistics(self, x: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        if valid is None:
            there, count = x, jnp.asarray(x.size // x.shape[-1], x.dtype)
        else:
            there = only(x, valid)
            count = valid.sum(dtype=x.dtype) * (x.shape[-3] * x.shape[-2])
        sums = jnp.stack(
            [over_pixels(one).sum(0) for one in (there, there * x)] + [jnp.full(x.shape[-1], count, x.dtype)]
        )
        total, squares, count = sums if self.axis_name is None else jax.lax.psum(sums, self.axis_name)
        mean, square = total / jnp.maximum(count, 1.0), squares / jnp.maximum(count, 1.0)
        return mean, jnp.maximum(square - mean * mean, 0.0)


def only(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """(B, D, H, W, C) with zeros in the slices that are not there."""
    return x if valid is None else jnp.where(valid[..., None, None, None], x, jnp.zeros((), x.dtype))


class GroupNorm(nn.Module):
    """As `nn.GroupNorm`, each example for itself: (B, *space, C).

    The variance is taken about the mean, not as E[x^2] - E[x]^2: an even background has next to none, and the rounding
    of the short form is then most of what the division by it enlarges.
    """

    groups: int
    epsilon: float = 1e-5
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)
        wide = at_least_float32(x)
        mean = self._means(wide)
        # The variance does not change with the mean that it is taken about: that is where it is least.
        centred = wide - to_pixels(jax.lax.stop_gradient(mean), x.ndim)
        factor = jax.lax.rsqrt(self._means(centred * centred) + self.epsilon)
        scale, shift = (jnp.broadcast_to(one, mean.shape) for one in (scale, bias))
        return standardised(wide, mean, factor * scale, shift).astype(self.dtype or wide.dtype)

    def _means(self, x: jax.Array) -> jax.Array:
        """Over the pixels and channels of each group, for each channel: (B, C)."""
        batch, channels = x.shape[0], x.shape[-1]
        each = channels // self.groups
        sums = over_pixels(x).reshape(batch, self.groups, each).sum(-1, keepdims=True)
        count = x.size // (batch * self.groups)
        return jnp.broadcast_to(sums / count, (batch, self.groups, each)).reshape(batch, channels)
