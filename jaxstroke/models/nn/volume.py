"""Convolutions over three axes, (B, D, H, W, C), where the first one is slices or time.

Where slices are padded, `valid` (B, D) says which ones are there.  The others are zero before each convolution, as what
lies beyond a volume is, and take no part in the statistics: a padded volume gives what the volume alone would give.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from jaxstroke.models.nn.blocks import Convolution
from jaxstroke.models.nn.norm import BatchNorm, only


class VolumeConvNormAct(nn.Module):
    """conv 3 x 3 x 3 (padding 1) - BatchNorm - ReLU."""

    features: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None = None, *, train: bool) -> jax.Array:
        x = only(x, valid)
        x = Convolution(self.features, (3, 3, 3), padding=1, dtype=self.dtype, name="conv")(x)
        x = BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name="norm")(x, valid, train=train)
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
