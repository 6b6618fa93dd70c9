"""Convolutions over three axes, (B, D, H, W, C), where the first one is slices or time."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from jaxstroke.models.nn.blocks import TORCH_KERNEL, BatchNorm
from jaxstroke.models.nn.convolution import convolve


class VolumeConvNormAct(nn.Module):
    """conv 3 x 3 x 3 (padding 1) - BatchNorm - ReLU."""

    features: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Conv(
            self.features,
            (3, 3, 3),
            padding=1,
            kernel_init=TORCH_KERNEL,
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name="conv",
        )(x)
        x = BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name="norm")(x, train=train)
        return nn.relu(x)


class VolumeDoubleConv(nn.Module):
    """Twice conv 3 x 3 x 3 - BatchNorm - ReLU, to `inner` and then to `features` channels."""

    inner: int
    features: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        x = VolumeConvNormAct(self.inner, name="block1", **settings)(x, train=train)
        return VolumeConvNormAct(self.features, name="block2", **settings)(x, train=train)
