"""Residual bottleneck blocks, as `jaxstroke.models.nn.resnet`."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import BatchNorm

GROUPS = 32


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose kernel has zero mean and unit variance for each output channel when it is used."""

    def forward(self, input: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        kernel = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        return F.conv2d(input, kernel, None, self.stride, self.padding, self.dilation)


class ConvNorm(nn.Module):
    """A convolution without bias, padded by dilation * (k // 2), and its normalisation."""

    def __init__(
        self,
        channels: int,
        features: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        *,
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        super().__init__()
        grouped = norm == "group"
        kind = StandardisedConv2d if grouped else nn.Conv2d
        padding = dilation * (kernel // 2)
        self.conv = kind(channels, features, kernel, stride, padding, dilation, bias=False)
        self.norm = nn.GroupNorm(min(GROUPS, features), features, eps=1e-6) if grouped else BatchNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """relu(x' + conv1x1(relu(conv3x3(relu(conv1x1(x)))))); x' is x, or its projection where the shape changes."""

    def __init__(
        self,
        channels: int,
        features: int,
        inner: int,
        stride: int = 1,
        dilation: int = 1,
        *,
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, inner, 1, norm=norm)
        self.spatial = ConvNorm(inner, inner, 3, stride, dilation, norm=norm)
        self.expand = ConvNorm(inner, features, 1, norm=norm)
        same = stride == 1 and channels == features
        self.project = nn.Identity() if same else ConvNorm(channels, features, 1, stride, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(F.relu(self.spatial(F.relu(self.reduce(x)))))
        return F.relu(self.project(x) + y)


def max_pool_3x3(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2, padding=1)
