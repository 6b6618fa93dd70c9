"""The halves of a U-Net with group normalisation, for networks that see one slice at a time.

Group normalisation looks at one example only: its result depends neither on the rest of the batch nor on how many
slices are handed in at once, so a stream of slices and a whole clip give the same answer, and nothing has to be
carried as running statistics through a scan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.blocks import Conv
from jaxstroke.models.nn.norm import GroupNorm
from jaxstroke.models.nn.resize import max_pool, resize_bilinear

MOST_GROUPS = 8


def group_count(channels: int) -> int:
    """Eight groups, fewer for narrow maps: equal parts, and of two channels at least where there are two.

    A group of a single channel would be instance normalisation, which forgets how bright a map is.
    """
    return math.gcd(MOST_GROUPS, max(channels // 2, 1), channels)


class ConvGroupNormAct(nn.Module):
    """conv3x3 - GroupNorm - ReLU: (B, H, W, C) -> (B, H, W, features)."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv(self.features, dtype=self.dtype, name="conv")(x)
        x = GroupNorm(group_count(self.features), dtype=self.dtype, name="norm")(x)
        return nn.relu(x)


class DoubleConvGroupNorm(nn.Module):
    """Twice conv3x3 - GroupNorm - ReLU."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = ConvGroupNormAct(self.features, self.dtype, name="block1")(x)
        return ConvGroupNormAct(self.features, self.dtype, name="block2")(x)


class Encoder(nn.Module):
    """A double convolution at each width, a 2 x 2 maximum between: (B, H, W, C) -> one map a level, finest first."""

    widths: Sequence[int]
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        levels = []
        for number, width in enumerate(self.widths, start=1):
            x = x if number == 1 else max_pool(x)
            x = DoubleConvGroupNorm(width, self.dtype, name=f"level{number}")(x)
            levels.append(x)
        return levels


class Decoder(nn.Module):
    """Bilinear x2, concatenation with the skip, double convolution, from the deepest map to the finest skip.

    `skips` are finest first; the result has the height, width and channels of the finest.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, deepest: jax.Array, skips: Sequence[jax.Array]) -> jax.Array:
        x = deepest
        for number, skip in reversed(list(enumerate(skips, start=1))):
            x = resize_bilinear(x, skip.shape[-3:-1])
            x = jnp.concatenate([skip, x], axis=-1)
            x = DoubleConvGroupNorm(skip.shape[-1], self.dtype, name=f"level{number}")(x)
        return x
