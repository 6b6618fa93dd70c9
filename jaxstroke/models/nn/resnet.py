"""Residual bottleneck blocks of the ResNet family, with batch or group normalisation.

Convolutions here have no bias: a normalisation follows each of them, as in the public ResNets.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxstroke.models.nn.convolution import convolve
from jaxstroke.models.nn.norm import BatchNorm, GroupNorm

# PyTorch's initialisation of its ResNets: normal, variance 2 / (k^2 out).
FAN_OUT_KERNEL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
GROUPS = 32
STANDARDISE_EPSILON = 1e-5


class BareConv(nn.Module):
    """A convolution without bias, padded by dilation * (k // 2): (B, H, W, C) -> (B, ceil(H / stride), ..., features).

    With `standardise` the kernel of each output channel has zero mean and unit variance when it is used (weight
    standardisation, Qiao et al. 2019): w' = (w - mean) / sqrt(var + 1e-5).
    """

    features: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    standardise: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", FAN_OUT_KERNEL, shape, jnp.float32)
        if self.standardise:
            mean = kernel.mean(axis=(0, 1, 2), keepdims=True)
            variance = kernel.var(axis=(0, 1, 2), keepdims=True)
            kernel = (kernel - mean) * jax.lax.rsqrt(variance + STANDARDISE_EPSILON)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        padding = self.dilation * (self.kernel // 2)
        return convolve(
            x, kernel, (self.stride, self.stride), [(padding, padding)] * 2, rhs_dilation=(self.dilation, self.dilation)
        )


class ConvNorm(nn.Module):
    """A bare convolution and its normalisation, without activation.

    "batch" is BatchNorm; "group" is GroupNorm of at most 32 groups (eps 1e-6) on a weight-standardised kernel.
    """

    features: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    norm: Literal["batch", "group"] = "batch"
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        grouped = self.norm == "group"
        conv = BareConv(self.features, self.kernel, self.stride, self.dilation, grouped, self.dtype, name="conv")
        x = conv(x)
        if grouped:
            groups = min(GROUPS, self.features)
            return GroupNorm(groups, 1e-6, self.dtype, name="norm")(x)
        return BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name="norm")(x, train=train)


class Bottleneck(nn.Module):
    """relu(x' + conv1x1(relu(conv3x3(relu(conv1x1(x)))))), normalised after each convolution.

    The 3 x 3 bears the stride; x' is x, or its 1 x 1 projection where the shape changes.

    Attributes:
      features: channels of the result.
      inner: channels of the 3 x 3 convolution, a quarter of `features` in a ResNet.
    """

    features: int
    inner: int
    stride: int = 1
    dilation: int = 1
    norm: Literal["batch", "group"] = "batch"
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        settings: dict[str, Any] = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        y = nn.relu(ConvNorm(self.inner, 1, name="reduce", **settings)(x, train=train))
        spatial = ConvNorm(self.inner, 3, self.stride, self.dilation, name="spatial", **settings)
        y = nn.relu(spatial(y, train=train))
        y = ConvNorm(self.features, 1, name="expand", **settings)(y, train=train)
        if self.stride > 1 or x.shape[-1] != self.features:
            x = ConvNorm(self.features, 1, self.stride, name="project", **settings)(x, train=train)
        return nn.relu(x + y)


def max_pool_3x3(x: jax.Array) -> jax.Array:
    """3 x 3 maximum with stride 2, padded by one: (B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C)."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)
