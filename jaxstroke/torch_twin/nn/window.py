"""Self-attention within shifted windows, as `jaxstroke.models.nn.window`; maps are tokens (B, H, W, C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.transformer import Attention, LayerNorm, Perceptron

APART = -100.0


def fitting_window(pixels: int, window: int) -> int:
    """The largest window of at most `window` pixels that cuts a map of `pixels` evenly."""
    return max(size for size in range(1, min(window, pixels) + 1) if pixels % size == 0)


def partition(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (B, windows, window^2, C)."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def merge(windows: Tensor, window: int, rows: int, columns: int) -> Tensor:
    """The inverse of `partition`, for a map of rows x columns windows."""
    x = windows.unflatten(2, (window, window)).unflatten(1, (rows, columns))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_index(window: int) -> Tensor:
    """(window^2, window^2): the row of the bias table for query i and key j."""
    rows = torch.arange(window).repeat_interleave(window)
    columns = torch.arange(window).repeat(window)
    down, right = rows[:, None] - rows[None], columns[:, None] - columns[None]
    return (down + window - 1) * (2 * window - 1) + right + window - 1


def shift_mask(pixels: int, window: int, shift: int) -> Tensor:
    """(windows, window^2, window^2): 0 for pairs that were neighbours before the roll, `APART` for others."""
    place = torch.arange(pixels)
    strip = (place >= pixels - window).long() + (place >= pixels - shift).long()
    region = partition((3 * strip[:, None] + strip[None])[None, :, :, None], window)[0, :, :, 0]
    return APART * (region[:, :, None] != region[:, None, :]).float()


class WindowAttention(nn.Module):
    """Attention within windows (B, windows, window^2, C) with a learned bias for each relative position and head."""

    index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.position_bias = nn.Parameter(0.02 * torch.randn((2 * window - 1) ** 2, heads))
        self.attention = Attention(channels, heads)
        self.register_buffer("index", relative_index(window), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        bias = self.position_bias[self.index].permute(2, 0, 1)  # (heads, tokens, tokens)
        return self.attention(x, bias if mask is None else bias + mask[:, None])


class WindowBlock(nn.Module):
    """z' = z + WindowAttention(LN(z)); z'' = z' + Perceptron(LN(z')), on a map of `pixels` x `pixels`."""

    mask: Tensor | None

    def __init__(
        self, channels: int, heads: int, pixels: int, window: int, *, shifted: bool, mlp_ratio: int = 4
    ) -> None:
        super().__init__()
        self.window = fitting_window(pixels, window)
        self.windows = pixels // self.window  # along each side
        self.shift = self.window // 2 if shifted and self.window < pixels else 0
        mask = shift_mask(pixels, self.window, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)
        self.norm1 = LayerNorm(channels)
        self.window_attention = WindowAttention(channels, heads, self.window)
        self.norm2 = LayerNorm(channels)
        self.perceptron = Perceptron(channels, mlp_ratio * channels)

    def forward(self, x: Tensor) -> Tensor:
        rolled = torch.roll(self.norm1(x), (-self.shift, -self.shift), dims=(1, 2))
        attended = self.window_attention(partition(rolled, self.window), self.mask)
        attended = merge(attended, self.window, self.windows, self.windows)
        x = x + torch.roll(attended, (self.shift, self.shift), dims=(1, 2))
        return x + self.perceptron(self.norm2(x))
