"""Lesions counted one by one, as the ISLES'22 challenge counts them.

A lesion is a 26-connected component of a (D, H, W) mask: voxels that share a face, an edge or a corner hang together.

    tp = reference lesions that at least one predicted voxel touches
    fn = reference lesions that none touches                  ("missed lesions")
    fp = predicted lesions that touch no reference voxel      ("false-positive regions")
    lesion-wise F1 = 2 tp / (2 tp + fp + fn)                  both masks empty: 1; exactly one empty: 0

The match is not one to one: a single predicted region that covers two reference lesions finds both.

Hernandez Petzsche et al., "ISLES 2022: a multi-center magnetic resonance imaging stroke lesion segmentation dataset",
Scientific Data 9, 762 (2022); evaluation code at github.com/ezequieldlrosa/isles22.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cc3d
import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxstroke.errors import UserError
from jaxstroke.metrics.overlap import as_mask, as_masks, voxel_ml


@dataclasses.dataclass(frozen=True)
class LesionCounts:
    """Lesions of one study. `found` is tp, `missed` fn and `false_positive` fp of the module's docstring."""

    predicted: int
    reference: int
    found: int
    missed: int
    false_positive: int

    @property
    def count_difference(self) -> int:
        """| number of predicted lesions - number of reference lesions |."""
        return abs(self.predicted - self.reference)

    @property
    def f1(self) -> float:
        """Lesion-wise F1; both masks empty 1."""
        regions = 2 * self.found + self.false_positive + self.missed
        return 2 * self.found / regions if regions else 1.0


def components(mask: ArrayLike) -> tuple[NDArray[np.integer], int]:
    """Labels (D, H, W), 0 for background and 1..n for the 26-connected components, and n."""
    mask = as_mask(mask)
    if mask.ndim != 3:
        raise UserError(f"lesions are counted in a volume (D, H, W), not in shape {mask.shape}")
    labels, count = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26, return_N=True)
    return labels, int(count)


def component_volumes_ml(labels: NDArray[np.integer], count: int, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Volume of each component by label, (count + 1,); the background's entry is 0."""
    voxels = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
    voxels[0] = 0
    return voxels * voxel_ml(spacing_mm)


def count_lesions(prediction: ArrayLike, reference: ArrayLike) -> LesionCounts:
    """Which lesions of two (D, H, W) masks meet.

    >>> count_lesions([[[1, 1, 1, 0, 0, 1]]], [[[1, 0, 1, 0, 0, 0]]]).f1  # one region over two lesions, one stray
    0.8
    """
    prediction, reference = as_masks(prediction, reference)
    predicted_labels, predicted = components(prediction)
    reference_labels, expected = components(reference)
    both = prediction & reference
    found = np.unique(reference_labels[both]).size
    touching = np.unique(predicted_labels[both]).size
    return LesionCounts(
        predicted=predicted,
        reference=expected,
        found=found,
        missed=expected - found,
        false_positive=predicted - touching,
    )
