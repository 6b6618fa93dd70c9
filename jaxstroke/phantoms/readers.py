"""Two readers, each drawing on ADC and on DWI: the same lesion, other boundaries.

A reader's mask is the set of the wanted volume on which  d(r) / R + a n(r)  is largest: d the signed distance to the
true boundary, R the lesion's size, n a smooth field of the reader's own plus one of what the modality shows.  The
amplitude a is found by bisection so that the two readers agree as much as a study's agreement says; agreement varies
between studies about the published means.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from jaxstroke.phantoms.fields import Field, Positions

READERS = ("r1", "r2")
AGREEMENT = {"adc": 0.65, "dwi": 0.70}  # mean kappa between readers
_AGREEMENT_SD = 0.10
_VOLUME_SD = 0.12  # of the logarithm of the volume that a reader outlines
_MODALITY_SHARE = 0.5  # noise that both readers see in one modality, so that modalities differ more than readers
_BISECTIONS = 9
_WIDEST = 3.0  # the largest amplitude: beyond it the boundary is lost


def draw(
    rng: np.random.Generator,
    truth: np.ndarray,
    drawable: np.ndarray,
    positions: Positions,
    spacing_mm: tuple[float, float, float],
) -> dict[tuple[str, str], np.ndarray]:
    """Masks by (modality, reader), (D, H, W) bool; all empty where there is no lesion.

    Args:
      truth: the lesion.
      drawable: where a reader could draw at all: the brain.
    """
    keys = [(modality, reader) for modality in AGREEMENT for reader in READERS]
    masks = {key: np.zeros(truth.shape, bool) for key in keys}
    if not truth.any():
        return masks
    box = _box(truth, spacing_mm, margin_mm=14.0)
    inner = np.ascontiguousarray(truth[box])
    distance = _signed_distance(inner, spacing_mm)
    size_mm = 2.0 * float(distance[inner].mean())
    near = drawable[box] & (distance > -max(1.5 * size_mm, 6.0))
    near |= inner
    there: Positions = tuple(axis[box][near] for axis in positions)  # pyright: ignore[reportAssignmentType]
    steady = distance[near] / size_mm
    length_mm = float(np.clip(0.6 * size_mm, 2.5, 9.0))
    lesion_voxels = int(inner.sum())
    for modality, mean in AGREEMENT.items():
        wanted = float(np.clip(rng.normal(mean, _AGREEMENT_SD), 0.35, 0.88))
        shows = _MODALITY_SHARE * Field.draw(rng, length_mm).at(there)
        noise = [shows + Field.draw(rng, length_mm).at(there) for _ in READERS]
        counts = [lesion_voxels * float(np.exp(rng.normal(0.0, _VOLUME_SD))) for _ in READERS]
        for reader, one in zip(READERS, _pair(steady, noise, counts, wanted), strict=True):
            window = np.zeros(near.shape, bool)
            window[near] = one
            masks[modality, reader][box] = window
    return masks


def _pair(steady: np.ndarray, noise: list[np.ndarray], counts: list[float], wanted: float) -> list[np.ndarray]:
    """Both readers' voxels, with as much noise as brings their overlap down to the wanted agreement.

    A lesion is so small in the head that Cohen's kappa and the Dice overlap of two readers agree to the third digit.
    """
    low, high = 0.0, _WIDEST
    for _ in range(_BISECTIONS):
        amplitude = 0.5 * (low + high)
        first, second = (_largest(steady + amplitude * n, count) for n, count in zip(noise, counts, strict=True))
        overlap = 2.0 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))
        low, high = (amplitude, high) if overlap > wanted else (low, amplitude)
    return [_largest(steady + high * n, count) for n, count in zip(noise, counts, strict=True)]


def _largest(values: np.ndarray, count: float) -> np.ndarray:
    count = int(np.clip(round(count), 1, values.size))
    return values >= np.partition(values, values.size - count)[values.size - count]


def _signed_distance(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return (inside - outside).astype(np.float32)  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]


def _box(mask: np.ndarray, spacing_mm: tuple[float, float, float], margin_mm: float) -> tuple[slice, ...]:
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    margins = [int(margin_mm / spacing) + 1 for spacing in spacing_mm]
    return tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(found, margins, strict=True))
