"""Batches and outputs there and back between channels last (JAX) and channels first (PyTorch).

slices   (B, H, W, C)     <->  (B, C, H, W)
clips    (B, T, H, W, C)  <->  (B, T, C, H, W)     slices of a clip are taken one by one
volumes  (B, D, H, W, C)  <->  (B, C, D, H, W)     convolutions run through the slices
series   (B, T, H, W, 2)  <->  (B, 2, T, H, W)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jaxstroke.experiment.kinds import Kind
from jaxstroke.torch_twin.nn.blocks import widened


def to_torch(array: np.ndarray, kind: Kind) -> Tensor:
    """Images, or anything else that has the axes of the images, as a tensor of its own."""
    return torch.from_numpy(np.array(np.moveaxis(array, -1, _channel_axis(kind)), order="C"))


def to_numpy(tensor: Tensor, kind: Kind) -> np.ndarray:
    """Logits, or anything else that has their axes; those of a series are one slice."""
    return np.moveaxis(widened(tensor.detach()).cpu().numpy(), _channel_axis(kind), -1)


def _channel_axis(kind: Kind) -> int:
    return 2 if kind.in_order else 1
