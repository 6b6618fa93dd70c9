"""3D-U-Net, as `jaxstroke.models.unet3d`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.batch_norm_unet import doubling_widths
from jaxstroke.torch_twin.nn.blocks import Conv, widened
from jaxstroke.torch_twin.nn.volume import VolumeDoubleConv, max_pool_plane, resize_plane
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LEVELS = 4


class VolumeHead(nn.Module):
    """The last convolution, 1 x 1 in the plane and nothing through it, in float32 also under autocast."""

    def __init__(self, channels: int, targets: int) -> None:
        super().__init__()
        self.conv = Conv(channels, targets, 1)

    def forward(self, x: Tensor) -> Tensor:
        slices = x.transpose(1, 2)
        with torch.autocast(x.device.type, enabled=False):
            logits = self.conv(widened(slices.flatten(0, 1)))
        return logits.unflatten(0, slices.shape[:2]).transpose(1, 2)


class UNet3D(nn.Module):
    """(B, C, D, H, W) -> logits (B, K, D, H, W)."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int) -> None:
        super().__init__()
        widths = doubling_widths(2 * width, LEVELS)
        for level, (before, features) in enumerate(zip((sum(groups), *widths[:-1]), widths, strict=True), start=1):
            self.add_module(f"encoder{level}", VolumeDoubleConv(before, features // 2, features))
        for level, (features, below) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
            self.add_module(f"decoder{level}", VolumeDoubleConv(features + below, features, features))
        self.head = VolumeHead(widths[0], targets)

    def forward(self, images: Tensor) -> Outputs:
        skips: list[Tensor] = []
        x = images
        for level in range(1, LEVELS + 1):
            if level > 1:
                skips.append(x)
                x = max_pool_plane(x)
            x = self.get_submodule(f"encoder{level}")(x)
        for level, skip in reversed(list(enumerate(skips, start=1))):
            x = torch.cat([skip, resize_plane(x, skip.shape[-2:])], dim=1)
            x = self.get_submodule(f"decoder{level}")(x)
        return Outputs(self.head(x))


TWIN = Twin("unet3d", UNet3D, Small(32, {"width": 4}))
