"""A series as a network takes it: the time points of a slice, and beside each the mirror image, left to right.

The mirror image shows each place the other side of the head, so it is taken of the whole prepared plane, before any
crop and before any random change: both channels are then cut, turned and bent alike.  Mirrored after a rotation, the
second channel would show another place.
"""

from __future__ import annotations

import numpy as np

CHANNELS = 2  # the slice, and its mirror image


def beside_mirror(planes: np.ndarray) -> np.ndarray:
    """(D, H, W, T) to (D, H, W, 2 T): the mirror images' time points stand behind the planes' own."""
    return np.concatenate([planes, planes[:, :, ::-1]], axis=-1)


def as_examples(planes: np.ndarray) -> np.ndarray:
    """What `beside_mirror` gave, whole or cropped, (..., H, W, 2 T) to (..., T, H, W, 2)."""
    *lead, times = planes.shape
    apart = planes.reshape(*lead, CHANNELS, times // CHANNELS)
    return np.ascontiguousarray(np.moveaxis(apart, -1, -4))
