"""Lesions counted one by one, as the ISLES'22 challenge counts them.

A lesion is a 26-connected component of a (D, H, W) mask: voxels that share a face, an edge or a corner hang together.

    tp = reference lesions that at least one predicted voxel touches
    fn = reference lesions that none touches                  ("missed lesions")
    fp = predicted lesions that touch no reference voxel      ("false-positive regions")
    lesion-wise F1 = 2 tp / (2 tp + fp + fn)                  both masks empty: 1; exactly one empty: 0

The match is not one to one: a single predicted region that covers two reference lesions finds both.

Other conventions match one to one by intersection over union (`match_lesions`), as panoptica 2.1.7 does: of all
pairs that overlap, those of the highest IoU first, a pair is taken where its IoU reaches the threshold and neither of
its lesions is taken yet.  Then

    recognition quality  rq = tp / (tp + fp / 2 + fn / 2)       segmentation quality  sq = mean IoU of the pairs
    panoptic quality     pq = rq sq                             (Kirillov et al., CVPR 2019)

Hernandez Petzsche et al., "ISLES 2022: a multi-center magnetic resonance imaging stroke lesion segmentation dataset",
Scientific Data 9, 762 (2022); evaluation code at github.com/ezequieldlrosa/isles22.
"""

from __future__ import annotations

import dataclasses
import math
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


@dataclasses.dataclass(frozen=True)
class Regions:
    """The components of two masks on one grid, and which of them meet.

    `overlaps` has a row (reference label, predicted label, voxels in common) for each pair that overlaps.
    """

    reference_voxels: NDArray[np.integer]  # by label, (n + 1,); the background's entry is not used
    predicted_voxels: NDArray[np.integer]
    overlaps: NDArray[np.integer]

    @property
    def reference(self) -> int:
        return self.reference_voxels.size - 1

    @property
    def predicted(self) -> int:
        return self.predicted_voxels.size - 1


def regions(prediction: ArrayLike, reference: ArrayLike) -> Regions:
    """Both masks' lesions."""
    prediction, reference = as_masks(prediction, reference)
    predicted_labels, predicted = components(prediction)
    reference_labels, expected = components(reference)
    both = prediction & reference
    codes = reference_labels[both].astype(np.int64) * (predicted + 1) + predicted_labels[both]
    pairs, voxels = np.unique(codes, return_counts=True)
    return Regions(
        np.bincount(reference_labels[reference], minlength=expected + 1),
        np.bincount(predicted_labels[prediction], minlength=predicted + 1),
        np.stack([pairs // (predicted + 1), pairs % (predicted + 1), voxels], axis=1),
    )


def touching(found: Regions) -> LesionCounts:
    """The counts of ISLES'22: any voxel in common will do."""
    touched = np.unique(found.overlaps[:, 0]).size
    touching_ones = np.unique(found.overlaps[:, 1]).size
    return LesionCounts(
        predicted=found.predicted,
        reference=found.reference,
        found=touched,
        missed=found.reference - touched,
        false_positive=found.predicted - touching_ones,
    )


@dataclasses.dataclass(frozen=True)
class MatchedLesions:
    """Lesions matched one to one: the counts, and the IoU of each matched pair."""

    counts: LesionCounts
    ious: tuple[float, ...]

    @property
    def recognition_quality(self) -> float:
        """rq; both masks empty 1."""
        return self.counts.f1

    @property
    def segmentation_quality(self) -> float:
        """sq; undefined (NaN) where nothing is matched, except that two empty masks have 1."""
        if self.ious:
            return float(np.mean(self.ious))
        return math.nan if self.counts.predicted or self.counts.reference else 1.0

    @property
    def panoptic_quality(self) -> float:
        return self.recognition_quality * self.segmentation_quality if self.counts.found or not self._any() else 0.0

    def _any(self) -> int:
        return self.counts.predicted + self.counts.reference


def matched(found: Regions, *, iou: float) -> MatchedLesions:
    """The pairs of highest IoU first, each of at least `iou`, no lesion in two of them."""
    reference, predicted, common = found.overlaps.T
    ratio = common / (found.reference_voxels[reference] + found.predicted_voxels[predicted] - common)
    taken_reference: set[int] = set()
    taken_predicted: set[int] = set()
    ious = []
    for index in np.argsort(-ratio, kind="stable"):
        r, p = int(reference[index]), int(predicted[index])
        if ratio[index] >= iou and r not in taken_reference and p not in taken_predicted:
            taken_reference.add(r)
            taken_predicted.add(p)
            ious.append(float(ratio[index]))
    counts = LesionCounts(
        predicted=found.predicted,
        reference=found.reference,
        found=len(ious),
        missed=found.reference - len(ious),
        false_positive=found.predicted - len(ious),
    )
    return MatchedLesions(counts, tuple(ious))


def match_lesions(prediction: ArrayLike, reference: ArrayLike, *, iou: float) -> MatchedLesions:
    """Lesions of two (D, H, W) masks matched one to one by IoU.

    >>> match_lesions([[[1, 1, 1, 0, 1]]], [[[1, 1, 0, 0, 0]]], iou=0.5).panoptic_quality  # 2/3 IoU, one stray region
    0.4444444444444444
    """
    return matched(regions(prediction, reference), iou=iou)


def count_lesions(prediction: ArrayLike, reference: ArrayLike) -> LesionCounts:
    """Which lesions of two (D, H, W) masks meet.

    >>> count_lesions([[[1, 1, 1, 0, 0, 1]]], [[[1, 0, 1, 0, 0, 0]]]).f1  # one region over two lesions, one stray
    0.8
    """
    return touching(regions(prediction, reference))
