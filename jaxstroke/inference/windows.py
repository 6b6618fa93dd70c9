"""Covering a plane (or a stack) with windows of the network's size, and blending what they say."""

from __future__ import annotations

import itertools

import numpy as np


def starts(length: int, window: int, *, overlap: float = 0.5) -> list[int]:
    """First pixels of the fewest evenly spread windows that cover `length` with at least `overlap` between neighbours.

    A length that one window covers gives [0]; the caller pads when the length is smaller than the window.
    """
    if length <= window:
        return [0]
    stride = max(1, int(window * (1.0 - overlap)))
    count = -(-(length - window) // stride) + 1
    return [round(index * (length - window) / (count - 1)) for index in range(count)]


def corners(shape: tuple[int, ...], window: tuple[int, ...], *, overlap: float = 0.5) -> list[tuple[int, ...]]:
    """The first corner of every window over an array of any dimension."""
    axes = (starts(length, size, overlap=overlap) for length, size in zip(shape, window, strict=True))
    return list(itertools.product(*axes))


def blending_weights(window: tuple[int, ...]) -> np.ndarray:
    """A Gaussian over the window, standard deviation one eighth of its size: its middle is trusted more than its rim.

    Never below a thousandth of its peak, so that a voxel that only one corner covers keeps its value.
    """
    weights = np.ones((), np.float32)
    for size in window:
        where = (np.arange(size) - (size - 1) / 2) / (size / 8)
        weights = np.multiply.outer(weights, np.exp(-0.5 * where**2)).astype(np.float32)
    return np.maximum(weights, 1e-3 * weights.max())


def pad_to(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Adds zeros at the end of the first axes until the array is at least of this shape there."""
    missing = [max(0, wanted - have) for have, wanted in zip(array.shape, shape, strict=False)]
    if not any(missing):
        return array
    return np.pad(array, [(0, count) for count in missing] + [(0, 0)] * (array.ndim - len(missing)))
