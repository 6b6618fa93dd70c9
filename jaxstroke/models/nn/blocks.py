"""Convolution, normalisation and activation in the combinations that the papers share.

Kernels keep their bias before normalisation, as the public implementations whose sizes match the papers do.
Modules bear explicit names (`conv1`, `norm1`, ...), because weights travel to PyTorch by these names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxstroke.models.nn.convolution import convolve
from jaxstroke.models.nn.norm import BatchNorm
from jaxstroke.models.nn.precision import at_least_float32
from jaxstroke.models.nn.sums import biased

Initializer = Callable[..., jax.Array]

# PyTorch's default for convolutions and linear layers: Kaiming uniform with a = sqrt(5), that is a variance of
# 1 / (3 fan_in).
TORCH_KERNEL: Initializer = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")
GLOROT_KERNEL: Initializer = nn.initializers.glorot_uniform()
KERNELS: dict[str, Initializer] = {"torch": TORCH_KERNEL, "glorot": GLOROT_KERNEL}


class Convolution(nn.Module):
    """The variables and the arithmetic of `nn.Conv`, padded on all sides: (..., *space, C) -> (..., *space', F)."""

    features: int
    window: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    kernel_init: Initializer = TORCH_KERNEL
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (*self.window, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        axes = len(self.window)
        maps = x.reshape(-1, *x.shape[-axes - 1 :])
        found = convolve(maps, kernel, (self.stride,) * axes, ((self.padding, self.padding),) * axes)
        return biased(found, bias).reshape(*x.shape[: -axes - 1], *found.shape[1:])


class DoublingConvolution(nn.Module):
    """The variables and the arithmetic of `nn.ConvTranspose` with 2 x 2 windows in steps of 2: (B, H, W, C) ->
    (B, 2H, 2W, F).

    The windows do not overlap, so that it is one product, whose results are set side by side.  XLA's CPU compiler is
    slow at the gradient of the convolution that Flax makes of it.
    """

    features: int
    kernel_init: Initializer
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (2, 2, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        batch, height, width, _ = x.shape
        # A convolution's window is turned round where it is transposed.
        found = jnp.einsum("bhwc,yxcf->bhywxf", x, kernel[::-1, ::-1])
        return biased(found.reshape(batch, 2 * height, 2 * width, self.features), bias)


class Conv(nn.Module):
    """A convolution with bias and PyTorch's symmetric padding: (..., H, W, C) -> (..., H', W', features)."""

    features: int
    kernel: int = 3
    stride: int = 1
    initializer: str = "torch"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Convolution(
            self.features,
            (self.kernel, self.kernel),
            self.stride,
            self.kernel // 2,
            KERNELS[self.initializer],
            dtype=self.dtype,
            name="conv",
        )(x)


class ConvNormAct(nn.Module):
    """conv k x k - BatchNorm - ReLU."""

    features: int
    kernel: int = 3
    initializer: str = "torch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Conv(self.features, self.kernel, initializer=self.initializer, dtype=self.dtype, name="conv")(x)
        x = BatchNorm(self.momentum, self.epsilon, self.axis_name, self.dtype, name="norm")(x, train=train)
        return nn.relu(x)


class DoubleConv(nn.Module):
    """Twice conv3x3 - BatchNorm - ReLU, the block of U-Net."""

    features: int
    initializer: str = "torch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        block = functools.partial(
            ConvNormAct,
            initializer=self.initializer,
            momentum=self.momentum,
            epsilon=self.epsilon,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        x = block(self.features, name="block1")(x, train=train)
        return block(self.features, name="block2")(x, train=train)


class LogitHead(nn.Module):
    """The last 1 x 1 convolution, in float32 whatever the width of the arithmetic before it."""

    targets: int
    initializer: str = "torch"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = at_least_float32(x)
        return Conv(self.targets, 1, initializer=self.initializer, dtype=x.dtype, name="conv")(x)
