"""PerfU-Net, as `jaxstroke.models.perfu_net`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.batch_norm_unet import Decoder, doubling_widths
from jaxstroke.torch_twin.nn.blocks import LogitHead, widened
from jaxstroke.torch_twin.nn.volume import VolumeDoubleConv
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LEVELS = 3


class TimeAttention(nn.Module):
    """(B, C, T, H, W) -> (B, C, H, W), a weighted mean over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv3d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(widened(self.score(x)), dim=2)
        return (weights.to(x.dtype) * x).sum(dim=2)


class PerfUNet(nn.Module):
    """(B, 2, T, H, W), the time points of one slice and of its mirror image -> logits (B, K, H, W)."""

    def __init__(self, *, targets: int, width: int) -> None:
        super().__init__()
        widths = doubling_widths(width, LEVELS)
        for number, (before, features) in enumerate(zip((2, *widths[:-1]), widths, strict=True), start=1):
            self.add_module(f"encoder{number}", VolumeDoubleConv(before, features, features))
            self.add_module(f"reduce{number}", TimeAttention(features))
        self.decoder = Decoder(widths)
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor) -> Outputs:
        x, static = images, []
        for number in range(1, LEVELS + 1):
            if number > 1:
                x = F.max_pool3d(x, (2 if x.shape[2] > 1 else 1, 2, 2))
            x = self.get_submodule(f"encoder{number}")(x)
            static.append(self.get_submodule(f"reduce{number}")(x))
        return Outputs(self.head(self.decoder(static)))


TWIN = Twin("perfu_net", PerfUNet, Small(32, {"width": 4}, depth=5))
