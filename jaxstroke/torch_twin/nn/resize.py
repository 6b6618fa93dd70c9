"""Changing the size of feature maps (N, C, H, W), as `jaxstroke.models.nn.resize`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_bilinear(x: Tensor, size: tuple[int, ...], *, align_corners: bool = True) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def upsample_nearest(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def max_pool(x: Tensor) -> Tensor:
    """2 x 2 maximum, an odd last row or column dropped."""
    return F.max_pool2d(x, 2)


def average_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def match_size(x: Tensor, reference: Tensor) -> Tensor:
    """Repeats the bottom and right edge of `x` until it has the height and width of `reference`."""
    rows, columns = (reference.shape[axis] - x.shape[axis] for axis in (-2, -1))
    return F.pad(x, (0, columns, 0, rows), mode="replicate")


def adaptive_average_pool(x: Tensor, bins: int) -> Tensor:
    return F.adaptive_avg_pool2d(x, bins)
