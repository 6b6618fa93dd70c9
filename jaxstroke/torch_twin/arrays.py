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

from jaxstroke.torch_twin.nn.blocks import widened

CHANNEL_AXIS = {"slice": 1, "clip": 2, "volume": 1, "series": 1}


def to_torch(array: np.ndarray, example: str) -> Tensor:
    """Images, or anything else that has the axes of the images, as a tensor of its own."""
    return torch.from_numpy(np.array(np.moveaxis(array, -1, CHANNEL_AXIS[example]), order="C"))


def to_numpy(tensor: Tensor, example: str) -> np.ndarray:
    """Logits, or anything else that has their axes; those of a series are one slice."""
    axis = 1 if example == "series" else CHANNEL_AXIS[example]
    return np.moveaxis(widened(tensor.detach()).cpu().numpy(), axis, -1)
