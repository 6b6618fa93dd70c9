"""The halves of a U-Net with batch normalisation, as `jaxstroke.models.nn.batch_norm_unet`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import DoubleConv
from jaxstroke.torch_twin.nn.resize import max_pool, resize_bilinear


def doubling_widths(width: int, levels: int) -> tuple[int, ...]:
    return tuple(width * 2**level for level in range(levels))


class Encoder(nn.Module):
    """(B, C, H, W) -> one map a level, finest first."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = len(widths)
        for number, (before, width) in enumerate(zip((channels, *widths[:-1]), widths, strict=True), start=1):
            self.add_module(f"level{number}", DoubleConv(before, width))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for number in range(1, self.levels + 1):
            x = x if number == 1 else max_pool(x)
            x = self.get_submodule(f"level{number}")(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """Bilinear to the skip's size, [skip, x], double convolution to the skip's width; `widths` are finest first."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        for number, (width, below) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
            self.add_module(f"level{number}", DoubleConv(width + below, width))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        *skips, x = levels
        for number, skip in reversed(list(enumerate(skips, start=1))):
            x = torch.cat([skip, resize_bilinear(x, skip.shape[-2:])], dim=1)
            x = self.get_submodule(f"level{number}")(x)
        return x
