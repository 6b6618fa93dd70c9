"""The halves of a U-Net with group normalisation, as `jaxstroke.models.nn.group_norm_unet`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import Conv
from jaxstroke.torch_twin.nn.resize import max_pool, resize_bilinear


def group_count(channels: int) -> int:
    """Eight groups, fewer for narrow maps: equal parts, and of two channels at least where there are two."""
    return math.gcd(8, max(channels // 2, 1), channels)


class ConvGroupNormAct(nn.Module):
    """conv3x3 - GroupNorm - ReLU."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.conv = Conv(channels, features)
        self.norm = nn.GroupNorm(group_count(features), features, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class DoubleConvGroupNorm(nn.Module):
    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.block1 = ConvGroupNormAct(channels, features)
        self.block2 = ConvGroupNormAct(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.block1(x))


class Encoder(nn.Module):
    """(B, C, H, W) -> one map a level, finest first."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = len(widths)
        for number, (before, width) in enumerate(zip((channels, *widths[:-1]), widths, strict=True), start=1):
            self.add_module(f"level{number}", DoubleConvGroupNorm(before, width))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for number in range(1, self.levels + 1):
            x = x if number == 1 else max_pool(x)
            x = self.get_submodule(f"level{number}")(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """From the deepest map and the skips, finest first, to a map of the finest skip's shape."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        for number, (width, below) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
            self.add_module(f"level{number}", DoubleConvGroupNorm(width + below, width))

    def forward(self, deepest: Tensor, skips: Sequence[Tensor]) -> Tensor:
        x = deepest
        for number, skip in reversed(list(enumerate(skips, start=1))):
            x = torch.cat([skip, resize_bilinear(x, skip.shape[-2:])], dim=1)
            x = self.get_submodule(f"level{number}")(x)
        return x
