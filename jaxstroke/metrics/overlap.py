"""How much of two masks is the same: Dice, precision, recall, volumes.

With P the predicted and G the reference voxels,

    Dice = 2 |P & G| / (|P| + |G|)      precision = |P & G| / |P|      recall = |P & G| / |G|

| case                       | Dice | precision | recall |
|----------------------------|------|-----------|--------|
| both masks empty           | 1    | NaN       | NaN    |
| only the prediction empty  | 0    | NaN       | 0      |
| only the reference empty   | 0    | 0         | NaN    |

NaN says "undefined": a share of nothing.  Summaries count such studies instead of giving them a value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxstroke.errors import UserError

Mask = NDArray[np.bool_]


def as_mask(values: ArrayLike) -> Mask:
    """The array as bool; anything but 0 and 1 is refused, since a probability or a label number is not a mask."""
    array = np.asarray(values)
    if array.dtype == bool:
        return array
    mask = array == 1
    strange = array[~mask & (array != 0)]
    if strange.size:
        raise UserError(
            f"a mask holds only 0 and 1, this one also {strange[0]}: first threshold probabilities, or choose one label"
        )
    return mask


def as_masks(prediction: ArrayLike, reference: ArrayLike) -> tuple[Mask, Mask]:
    """Both arrays as bool, on one grid."""
    first, second = as_mask(prediction), as_mask(reference)
    if first.shape != second.shape:
        raise UserError(
            f"the prediction has shape {first.shape}, the reference {second.shape}: bring the prediction to the "
            "reference's grid before scoring"
        )
    return first, second


def count(mask: Mask) -> int:
    """Voxels of the mask, as a Python integer."""
    return int(np.count_nonzero(mask))


def dice(prediction: ArrayLike, reference: ArrayLike) -> float:
    """2 |P & G| / (|P| + |G|); both empty 1, exactly one empty 0.

    >>> dice([1, 1, 0, 0], [0, 1, 0, 0])
    0.6666666666666666
    """
    prediction, reference = as_masks(prediction, reference)
    voxels = count(prediction) + count(reference)
    return 2 * count(prediction & reference) / voxels if voxels else 1.0


def precision(prediction: ArrayLike, reference: ArrayLike) -> float:
    """|P & G| / |P|: how much of what was predicted is lesion; NaN with nothing predicted."""
    prediction, reference = as_masks(prediction, reference)
    voxels = count(prediction)
    return count(prediction & reference) / voxels if voxels else math.nan


def recall(prediction: ArrayLike, reference: ArrayLike) -> float:
    """|P & G| / |G|, also called sensitivity: how much of the lesion was found; NaN with an empty reference."""
    return precision(reference, prediction)


def slice_dice(prediction: ArrayLike, reference: ArrayLike, *, empty: float) -> NDArray[np.float64]:
    """Dice of each slice of two (D, ...) masks, as (D,); `empty` is what a slice empty in both masks scores.

    Most slices of a study hold no lesion, so the mean over slices hangs on this rule: with 1 a network that predicts
    nothing scores the share of empty slices, with 0 a perfect network scores the share of the others.
    """
    prediction, reference = as_masks(prediction, reference)
    axes = tuple(range(1, prediction.ndim))
    both = np.count_nonzero(prediction & reference, axis=axes)
    voxels = np.count_nonzero(prediction, axis=axes) + np.count_nonzero(reference, axis=axes)
    return np.where(voxels > 0, 2 * both / np.maximum(voxels, 1), empty)


def voxel_ml(spacing_mm: Sequence[float]) -> float:
    """Volume of one voxel in millilitres (1 mL = 1000 mm3)."""
    if not all(math.isfinite(edge) and edge > 0 for edge in spacing_mm):
        raise UserError(f"voxel spacing {tuple(spacing_mm)} mm: every edge must be a positive number; mend the header")
    return math.prod(float(edge) for edge in spacing_mm) / 1000


def volume_ml(mask: ArrayLike, spacing_mm: Sequence[float]) -> float:
    """Volume of a (D, H, W) mask in millilitres.

    >>> volume_ml([[[1, 1, 0]]], spacing_mm=(5.0, 1.0, 1.0))
    0.01
    """
    return count(as_mask(mask)) * voxel_ml(spacing_mm)


def volume_difference_ml(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]) -> float:
    """| |P| - |G| | in millilitres; 0 where both are empty."""
    prediction, reference = as_masks(prediction, reference)
    return abs(count(prediction) - count(reference)) * voxel_ml(spacing_mm)


def harmonic_f1(precision: float, recall: float) -> float:
    """2 P R / (P + R); 0 where both are 0, NaN where either is undefined.

    Of one study's voxels this is its Dice.  Of the *means* over studies it is not the mean Dice: that is the F1 which
    MDANet's tables print.

    >>> round(harmonic_f1(0.565, 0.644), 4)  # Perf-UNet's row of its Table 1
    0.6019
    """
    if math.isnan(precision) or math.isnan(recall):
        return math.nan
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def crop_to_union(prediction: Mask, reference: Mask) -> tuple[Mask, Mask]:
    """Both masks cut to the smallest box that holds both; of no voxels where both are empty.

    Outside that box there is only background, so overlap, components and surfaces come out the same within it.
    """
    union = prediction | reference
    box = []
    for axis in range(union.ndim):
        filled = np.flatnonzero(union.any(axis=tuple(other for other in range(union.ndim) if other != axis)))
        box.append(slice(filled[0], filled[-1] + 1) if filled.size else slice(0, 0))
    return prediction[tuple(box)], reference[tuple(box)]
