"""Which slices of a study hold lesion: detection, slice by slice.

A slice is positive in a mask where any voxel of it is.  With tp, fp, fn, tn the slices that are positive in both masks,
in the prediction alone, in the reference alone, in neither,

    sensitivity = tp / (tp + fn)      specificity = tn / (tn + fp)      precision = tp / (tp + fp)

A share of nothing is undefined (NaN).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from jaxstroke.metrics.overlap import as_masks


@dataclasses.dataclass(frozen=True)
class SliceDetection:
    """Slices of a (D, H, W) study: found, called falsely, missed, rightly left."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def sensitivity(self) -> float:
        return _share(self.tp, self.fn)

    @property
    def specificity(self) -> float:
        return _share(self.tn, self.fp)

    @property
    def precision(self) -> float:
        return _share(self.tp, self.fp)


def detect_slices(prediction: ArrayLike, reference: ArrayLike) -> SliceDetection:
    """Of two (D, ...) masks.

    >>> detect_slices([[1, 0], [0, 0], [0, 1]], [[0, 1], [0, 1], [0, 0]])
    SliceDetection(tp=1, fp=1, fn=1, tn=0)
    """
    masks = as_masks(prediction, reference)
    predicted, expected = (mask.any(axis=tuple(range(1, mask.ndim))) for mask in masks)
    return SliceDetection(
        tp=int(np.count_nonzero(predicted & expected)),
        fp=int(np.count_nonzero(predicted & ~expected)),
        fn=int(np.count_nonzero(~predicted & expected)),
        tn=int(np.count_nonzero(~predicted & ~expected)),
    )


def _share(some: int, others: int) -> float:
    return some / (some + others) if some + others else math.nan
