"""Attention U-Net, as `jaxstroke.models.attention_unet`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.attention import AdditiveGate
from jaxstroke.torch_twin.nn.batch_norm_unet import Encoder, doubling_widths
from jaxstroke.torch_twin.nn.blocks import DoubleConv, LogitHead
from jaxstroke.torch_twin.nn.resize import match_size
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin


class AttentionUNet(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W)."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int) -> None:
        super().__init__()
        widths = doubling_widths(width, 5)
        self.encoder = Encoder(sum(groups), widths)
        for number, features in enumerate(widths[:-1], start=1):
            self.add_module(f"up{number}", nn.ConvTranspose2d(2 * features, features, 2, stride=2))
            self.add_module(f"gate{number}", AdditiveGate(features, features, features // 2, norm=True))
            self.add_module(f"decoder{number}", DoubleConv(2 * features, features))
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor) -> Outputs:
        *skips, x = self.encoder(images)
        for number, skip in reversed(list(enumerate(skips, start=1))):
            x = match_size(self.get_submodule(f"up{number}")(x), skip)
            gated = self.get_submodule(f"gate{number}")(x, skip).features
            x = self.get_submodule(f"decoder{number}")(torch.cat([gated, x], dim=1))
        return Outputs(self.head(x))


TWIN = Twin("attention_unet", AttentionUNet, Small(64, {"width": 4}))
