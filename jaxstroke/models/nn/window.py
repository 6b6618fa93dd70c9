"""Self-attention within windows that shift from block to block (Swin Transformer, Liu et al., ICCV 2021).

A map (B, H, W, C) is cut into windows of w x w pixels, and tokens attend within their window only.  In every other
block the map is first rolled by w // 2, so that windows straddle the cuts of the block before; pixels that come
together only because the roll wraps around are kept apart by a mask.  Windows are numbered row by row, as are the
pixels within one.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxstroke.errors import UserError
from jaxstroke.models.nn.transformer import TOKEN_KERNEL, Attention, LayerNorm, Perceptron

APART = -100.0  # added to the score of two pixels that are not neighbours, as the authors do; exp(-100) is nothing


def fitting_window(pixels: int, window: int) -> int:
    """The largest window of at most `window` pixels that cuts a map of `pixels` evenly; the whole map if that is less.

    >>> [fitting_window(pixels, 7) for pixels in (56, 40, 16, 5)]
    [7, 5, 4, 5]
    """
    fitting = max(size for size in range(1, min(window, pixels) + 1) if pixels % size == 0)
    if fitting == 1 < pixels:
        raise UserError(
            f"a map of {pixels} x {pixels} pixels cannot be cut into windows of 2 to {window}; "
            "choose another data.size, such as 224, 160, 128 or 64"
        )
    return fitting


def partition(x: jax.Array, window: int) -> jax.Array:
    """(B, H, W, C) -> (B, windows, window^2, C)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, window * window, channels)


def merge(windows: jax.Array, window: int, height: int, width: int) -> jax.Array:
    """The inverse of `partition`: (B, windows, window^2, C) -> (B, H, W, C)."""
    batch, channels = windows.shape[0], windows.shape[-1]
    x = windows.reshape(batch, height // window, width // window, window, window, channels)
    return x.swapaxes(2, 3).reshape(batch, height, width, channels)


def relative_index(window: int) -> np.ndarray:
    """(window^2, window^2): the row of the bias table for query i and key j.

    With d = (rows, columns) from key to query, each in 1 - w .. w - 1, it is (d0 + w - 1) (2 w - 1) + d1 + w - 1.
    """
    place = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij"), axis=-1).reshape(-1, 2)
    rows, columns = np.moveaxis(place[:, None] - place[None], -1, 0) + window - 1
    return rows * (2 * window - 1) + columns


def shift_mask(height: int, width: int, window: int, shift: int) -> np.ndarray:
    """(windows, window^2, window^2) float32: 0 for pairs that were neighbours before the roll, `APART` for others."""
    regions = _strips(height, window, shift)[:, None] * 3 + _strips(width, window, shift)[None]
    cut = regions.reshape(height // window, window, width // window, window).swapaxes(1, 2).reshape(-1, window * window)
    return np.where(cut[:, :, None] == cut[:, None, :], 0.0, APART).astype(np.float32)


def _strips(pixels: int, window: int, shift: int) -> np.ndarray:
    """The strip of each pixel after the roll: 0 in whole windows; in the last, 1 what stayed, 2 what wrapped around."""
    place = np.arange(pixels)
    return (place >= pixels - window).astype(int) + (place >= pixels - shift)


class WindowAttention(nn.Module):
    """Attention within windows (B, windows, window^2, C) with a learned bias for each relative position and head.

    `position_bias` is the table ((2 window - 1)^2, heads); `mask` is that of `shift_mask`.
    """

    heads: int
    window: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: np.ndarray | None) -> jax.Array:
        rows = (2 * self.window - 1) ** 2
        table = self.param("position_bias", TOKEN_KERNEL, (rows, self.heads), jnp.float32)
        bias = table[relative_index(self.window)].transpose(2, 0, 1)[None, None]  # (1, 1, heads, tokens, tokens)
        if mask is not None:
            bias = bias + jnp.asarray(mask)[None, :, None]
        bias = jnp.broadcast_to(bias, (x.shape[0], x.shape[1], *bias.shape[2:]))
        return Attention(self.heads, self.dtype, name="attention")(x, bias)


class WindowBlock(nn.Module):
    """z' = z + WindowAttention(LN(z)); z'' = z' + Perceptron(LN(z')), on a map (B, H, W, C).

    The windows are rolled by half their size where `shifted`, unless the map is a single window.
    """

    heads: int
    window: int
    shifted: bool
    mlp_ratio: int = 4
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        height, width, channels = x.shape[1:]
        window = fitting_window(min(height, width), self.window)
        shift = window // 2 if self.shifted and window < min(height, width) else 0
        mask = shift_mask(height, width, window, shift) if shift else None

        normalised = LayerNorm(self.dtype, name="norm1")(x)
        windows = partition(jnp.roll(normalised, (-shift, -shift), axis=(1, 2)), window)
        windows = WindowAttention(self.heads, window, self.dtype, name="window_attention")(windows, mask)
        x = x + jnp.roll(merge(windows, window, height, width), (shift, shift), axis=(1, 2))
        normalised = LayerNorm(self.dtype, name="norm2")(x)
        return x + Perceptron(self.mlp_ratio * channels, self.dtype, name="perceptron")(normalised)
