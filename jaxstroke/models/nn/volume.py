"""Convolutions over three axes, (B, D, H, W, C), where the first one is slices or time.

Where slices are padded, `valid` (B, D) says which ones are there.  The others are zero before each convolution, as what
lies beyond a volume is, and take no part in the statistics: a padded volume gives what the volume alone would give.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.blocks import TORCH_KERNEL, BatchNorm
from jaxstroke.models.nn.convolution import convolve
from jaxstroke.models.nn.precision import at_least_float32


class ValidBatchNorm(nn.Module):
    """The variables and the arithmetic of `nn.BatchNorm`, with the statistics of valid slices alone.

    `nn.BatchNorm` takes a mask too, but under `jax.pmap` gives each device the same weight, however many of its slices
    are valid.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones_init(), channels)
        bias = self.param("bias", nn.initializers.zeros_init(), channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var = self.variable("batch_stats", "var", jnp.ones, channels)
        wide = at_least_float32(x)
        found = self._statistics(wide, valid) if train else (mean.value, var.value)
        if train and not self.is_initializing():
            for kept, new in zip((mean, var), found, strict=True):
                kept.value = self.momentum * kept.value + (1.0 - self.momentum) * new
        centre, factor = _spread(found[0]), _spread(jax.lax.rsqrt(found[1] + self.epsilon) * scale)
        return ((wide - centre) * factor + _spread(bias)).astype(self.dtype or wide.dtype)

    def _statistics(self, x: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = tuple(range(x.ndim - 1))
        count = valid.sum(dtype=x.dtype) * (x.shape[-3] * x.shape[-2])
        there = only(x, valid)
        sums = jnp.stack([there.sum(axes), (there * x).sum(axes), jnp.full(x.shape[-1], count, x.dtype)])
        total, squares, count = sums if self.axis_name is None else jax.lax.psum(sums, self.axis_name)
        mean, square = total / jnp.maximum(count, 1.0), squares / jnp.maximum(count, 1.0)
        return mean, jnp.maximum(square - mean * mean, 0.0)


def only(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """(B, D, H, W, C) with zeros in the slices that are not there."""
    return x if valid is None else jnp.where(valid[..., None, None, None], x, jnp.zeros((), x.dtype))


def _spread(channels: jax.Array) -> jax.Array:
    return channels.reshape(1, 1, 1, 1, -1)


class VolumeNorm(nn.Module):
    """`BatchNorm`, of the valid slices where it is told which these are."""

    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        return ValidBatchNorm(axis_name=self.axis_name, dtype=self.dtype, name="norm")(x, valid, train=train)


class VolumeConvNormAct(nn.Module):
    """conv 3 x 3 x 3 (padding 1) - BatchNorm - ReLU."""

    features: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None = None, *, train: bool) -> jax.Array:
        x = only(x, valid)
        x = nn.Conv(
            self.features,
            (3, 3, 3),
            padding=1,
            kernel_init=TORCH_KERNEL,
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name="conv",
        )(x)
        if valid is None:
            x = BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name="norm")(x, train=train)
        else:
            x = VolumeNorm(self.axis_name, self.dtype, name="norm")(x, valid, train=train)
        return nn.relu(x)


class VolumeDoubleConv(nn.Module):
    """Twice conv 3 x 3 x 3 - BatchNorm - ReLU, to `inner` and then to `features` channels."""

    inner: int
    features: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None = None, *, train: bool) -> jax.Array:
        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        x = VolumeConvNormAct(self.inner, name="block1", **settings)(x, valid, train=train)
        return VolumeConvNormAct(self.features, name="block2", **settings)(x, valid, train=train)
