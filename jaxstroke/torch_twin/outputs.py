"""What every twin returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Outputs(NamedTuple):
    """Attributes: as `jaxstroke.models.outputs.Outputs`, with channels where PyTorch has them.

    logits: float32, (B, K, H, W) for slices and series, (B, T, K, H, W) for clips, (B, K, D, H, W) for volumes.
    """

    logits: Tensor
    side_logits: tuple[Tensor, ...] = ()
    features: Mapping[str, Tensor] = {}
