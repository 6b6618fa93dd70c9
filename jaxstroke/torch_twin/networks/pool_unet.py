"""Pool-UNet, as `jaxstroke.models.pool_unet`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import DoubleConv, LogitHead
from jaxstroke.torch_twin.nn.resize import resize_bilinear
from jaxstroke.torch_twin.nn.transformer import Perceptron
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LAYER_SCALE = 1e-5
S12_PARTS = (2, 4, 10, 16)
MLP_RATIO = 4
FIRST_PATCH = (7, 4, 2)  # kernel, stride, padding
LATER_PATCH = (3, 2, 1)


class GlobalNorm(nn.Module):
    """GroupNorm of one group."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class PoolFormerBlock(nn.Module):
    """y = x + s1 * (mean3x3(N(x)) - N(x)),  z = y + s2 * MLP(N(y)) on (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = GlobalNorm(channels)
        self.scale1 = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.norm2 = GlobalNorm(channels)
        self.scale2 = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.perceptron = Perceptron(channels, MLP_RATIO * channels)

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.norm1(x)
        mean = F.avg_pool2d(normalised, 3, stride=1, padding=1, count_include_pad=False)
        x = x + self.scale1[:, None, None] * (mean - normalised)
        tokens = self.perceptron(self.norm2(x).permute(0, 2, 3, 1))
        return x + self.scale2[:, None, None] * tokens.permute(0, 3, 1, 2)


class PoolUNet(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W)."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int, depths: tuple[int, ...]) -> None:
        super().__init__()
        widths = [parts * width for parts in S12_PARTS]
        self.depths = depths
        before = sum(groups)
        for stage, (features, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            kernel, stride, padding = FIRST_PATCH if stage == 1 else LATER_PATCH
            self.add_module(f"patch{stage}", nn.Conv2d(before, features, kernel, stride, padding))
            for number in range(1, depth + 1):
                self.add_module(f"stage{stage}_{number}", PoolFormerBlock(features))
            before = features
        for number, (features, below) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
            self.add_module(f"decoder{number}", DoubleConv(features + below, features))
        self.half_ = DoubleConv(widths[0], width)
        self.full = DoubleConv(width, width // 2)
        self.head = LogitHead(width // 2, targets)

    def forward(self, images: Tensor) -> Outputs:
        *skips, x = self._encode(images)
        for number, skip in reversed(list(enumerate(skips, start=1))):
            x = torch.cat([skip, resize_bilinear(x, skip.shape[-2:])], dim=1)
            x = self.get_submodule(f"decoder{number}")(x)
        height, width = images.shape[-2:]
        x = self.half_(resize_bilinear(x, ((height + 1) // 2, (width + 1) // 2)))
        return Outputs(self.head(self.full(resize_bilinear(x, (height, width)))))

    def _encode(self, x: Tensor) -> list[Tensor]:
        levels = []
        for stage, depth in enumerate(self.depths, start=1):
            x = self.get_submodule(f"patch{stage}")(x)
            for number in range(1, depth + 1):
                x = self.get_submodule(f"stage{stage}_{number}")(x)
            levels.append(x)
        return levels


TWIN = Twin("pool_unet", PoolUNet, Small(64, {"width": 4, "depths": (1, 1, 2, 1)}))
