"""Swin-Unet, as `jaxstroke.models.swin_unet`; between patches and logits, maps are tokens (B, H, W, C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import LogitHead
from jaxstroke.torch_twin.nn.transformer import LayerNorm, Linear
from jaxstroke.torch_twin.nn.window import WindowBlock
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

PATCH = 4
STAGES = 4


class PatchMerging(nn.Module):
    """(B, H, W, c) -> (B, H / 2, W / 2, 2c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * channels)
        self.reduce = Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduce(self.norm(torch.cat(corners, dim=-1)))


class PatchExpanding(nn.Module):
    """(B, H, W, c) -> (B, factor H, factor W, features): channels are laid out as (row, column, feature)."""

    def __init__(self, channels: int, features: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand = Linear(channels, factor**2 * features, bias=False)
        self.norm = LayerNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x).unflatten(-1, (self.factor, self.factor, -1))  # (B, H, W, row, column, features)
        return self.norm(x.transpose(2, 3).flatten(3, 4).flatten(1, 2))


class Stage(nn.Module):
    """`depth` window blocks, every other one shifted."""

    def __init__(self, channels: int, depth: int, heads: int, pixels: int, window: int) -> None:
        super().__init__()
        self.depth = depth
        for number in range(depth):
            block = WindowBlock(channels, heads, pixels, window, shifted=number % 2 == 1)
            self.add_module(f"block{number + 1}", block)

    def forward(self, x: Tensor) -> Tensor:
        for number in range(self.depth):
            x = self.get_submodule(f"block{number + 1}")(x)
        return x


class SwinUNet(nn.Module):
    """(B, C, size, size) -> logits (B, K, size, size)."""

    def __init__(
        self,
        *,
        groups: tuple[int, ...],
        targets: int,
        size: int,
        width: int,
        depths: tuple[int, ...],
        attention_heads: tuple[int, ...],
        window: int,
    ) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(STAGES)]
        self.patch = nn.Conv2d(sum(groups), width, PATCH, stride=PATCH)
        self.patch_norm = LayerNorm(width)
        for stage in range(STAGES):
            settings = (widths[stage], depths[stage], attention_heads[stage], size // PATCH // 2**stage, window)
            self.add_module(f"encoder{stage + 1}", Stage(*settings))
            if stage:
                self.add_module(f"merge{stage}", PatchMerging(widths[stage - 1]))
            if stage < STAGES - 1:
                self.add_module(f"expand{stage + 1}", PatchExpanding(widths[stage + 1], widths[stage], 2))
                self.add_module(f"fuse{stage + 1}", Linear(2 * widths[stage], widths[stage]))
                self.add_module(f"decoder{stage + 1}", Stage(*settings))
        self.bottom_norm = LayerNorm(widths[-1])
        self.top_norm = LayerNorm(width)
        self.expand0 = PatchExpanding(width, width, PATCH)
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor) -> Outputs:
        x = self.patch_norm(self.patch(images).permute(0, 2, 3, 1))
        skips = []
        for stage in range(STAGES):
            if stage:
                skips.append(x)
                x = self.get_submodule(f"merge{stage}")(x)
            x = self.get_submodule(f"encoder{stage + 1}")(x)
        x = self.bottom_norm(x)
        for stage in reversed(range(STAGES - 1)):
            x = self.get_submodule(f"expand{stage + 1}")(x)
            x = self.get_submodule(f"fuse{stage + 1}")(torch.cat([x, skips[stage]], dim=-1))
            x = self.get_submodule(f"decoder{stage + 1}")(x)
        x = self.expand0(self.top_norm(x))
        return Outputs(self.head(x.permute(0, 3, 1, 2)))


TWIN = Twin("swin_unet", SwinUNet, Small(64, {"width": 12, "attention_heads": (1, 2, 2, 2)}))
