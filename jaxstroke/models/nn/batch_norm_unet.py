"""The halves of a U-Net with batch normalisation: conv-BN-ReLU twice a level, max-pool down, bilinear up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError
from jaxstroke.models.nn.blocks import DoubleConv
from jaxstroke.models.nn.resize import max_pool, resize_bilinear


def doubling_widths(width: int, levels: int) -> tuple[int, ...]:
    """Channels of each level, finest first.

    >>> doubling_widths(32, 5)
    (32, 64, 128, 256, 512)
    """
    return tuple(width * 2**level for level in range(levels))


def require_pixels(images: jax.Array, least: int) -> None:
    """Refuses images (..., H, W, C) that the halvings of a network would leave without a pixel."""
    height, width = images.shape[-3:-1]
    if min(height, width) < least:
        raise UserError(
            f"images of {height} x {width}: this network halves them until {least} pixels have become one; "
            f"give it {least} x {least} at least (data.size={least})"
        )


class Encoder(nn.Module):
    """A double convolution at each width, a 2 x 2 maximum between: (B, H, W, C) -> one map a level, finest first.

    The maximum drops an odd last row or column, so level l has floor(H / 2^l) rows.
    """

    widths: Sequence[int]
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        require_pixels(x, 2 ** (len(self.widths) - 1))
        levels = []
        for number, width in enumerate(self.widths, start=1):
            x = x if number == 1 else max_pool(x)
            block = DoubleConv(width, axis_name=self.axis_name, dtype=self.dtype, name=f"level{number}")
            x = block(x, train=train)
            levels.append(x)
        return tuple(levels)


class Decoder(nn.Module):
    """Bilinear to the skip's size (corners aligned), concatenation [skip, x], double convolution to the skip's width.

    `levels` are finest first, the last one the deepest map; the result has the shape of the finest.
    """

    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array], *, train: bool) -> jax.Array:
        *skips, x = levels
        for number, skip in reversed(list(enumerate(skips, start=1))):
            x = resize_bilinear(x, skip.shape[-3:-1])
            x = jnp.concatenate([skip, x], axis=-1)
            block = DoubleConv(skip.shape[-1], axis_name=self.axis_name, dtype=self.dtype, name=f"level{number}")
            x = block(x, train=train)
        return x
