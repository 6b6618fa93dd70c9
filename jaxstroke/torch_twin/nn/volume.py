"""Convolutions over three axes, (B, C, D, H, W), as `jaxstroke.models.nn.volume`, and changes of size in the plane."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import BatchNorm


class VolumeConvNormAct(nn.Module):
    """conv 3 x 3 x 3 (padding 1) - BatchNorm - ReLU."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, features, 3, padding=1)
        self.norm = BatchNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class VolumeDoubleConv(nn.Module):
    def __init__(self, channels: int, inner: int, features: int) -> None:
        super().__init__()
        self.block1 = VolumeConvNormAct(channels, inner)
        self.block2 = VolumeConvNormAct(inner, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.block1(x))


def max_pool_plane(x: Tensor) -> Tensor:
    """2 x 2 maximum of every slice."""
    return F.max_pool3d(x, (1, 2, 2))


def resize_plane(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear with corners aligned, slice by slice: along the first axis, which keeps its length, nothing happens."""
    return F.interpolate(x, size=(x.shape[2], *size), mode="trilinear", align_corners=True)
