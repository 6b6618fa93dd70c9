"""PSPNet, as `jaxstroke.models.psp_net`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import ConvNormAct, LogitHead
from jaxstroke.torch_twin.nn.resize import adaptive_average_pool, resize_bilinear
from jaxstroke.torch_twin.nn.resnet import Bottleneck, ConvNorm, max_pool_3x3
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)
BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """(B, C, H, W) -> (B, 2C, H, W): the map itself and its means over coarser and finer bins."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for bins in BINS:
            self.add_module(f"bins{bins}", ConvNormAct(channels, channels // len(BINS), 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for bins in BINS:
            pooled = self.get_submodule(f"bins{bins}")(adaptive_average_pool(x, bins))
            parts.append(resize_bilinear(pooled, x.shape[-2:]))
        return torch.cat(parts, dim=1)


class PSPNet(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W)."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = ConvNorm(sum(groups), width, 7, 2)
        self.blocks: list[str] = []
        before = width
        stages = zip(units, STRIDES, DILATIONS, strict=True)
        for stage, (count, stride, dilation) in enumerate(stages, start=1):
            inner = width * 2 ** (stage - 1)
            for unit in range(1, count + 1):
                self.blocks.append(f"stage{stage}_{unit}")
                block = Bottleneck(before, 4 * inner, inner, stride if unit == 1 else 1, dilation)
                self.add_module(self.blocks[-1], block)
                before = 4 * inner
        self.pyramid = PyramidPooling(before)
        self.fuse = ConvNormAct(before + before // len(BINS) * len(BINS), 8 * width)
        self.head = LogitHead(8 * width, targets)

    def forward(self, images: Tensor) -> Outputs:
        x = max_pool_3x3(F.relu(self.stem(images)))
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        logits = self.head(self.fuse(self.pyramid(x)))
        return Outputs(resize_bilinear(logits, images.shape[-2:]))


TWIN = Twin("psp_net", PSPNet, Small(64, {"width": 4, "units": (1, 1, 2, 1)}))
