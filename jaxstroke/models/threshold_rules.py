"""The rules that clinics read lesions by: a threshold on a map in physical units, no weights.

- `tmax_6s`: tissue at risk is where Tmax > 6 s (Olivot et al., Stroke 40, 469, 2009).
- `rcbf_30`: infarct core is where CBF < 30 % of the healthy side's (Campbell et al., Stroke 42, 3435, 2011).
- `adc_620`: infarct core is bright on DWI with ADC < 620e-6 mm2/s (Purushotham et al., Int J Stroke 10, 348, 2015).

Smoothing, smallest regions and what counts as bright are this project's own, simple on purpose.

Maps are (D, H, W), slice by row by column, with columns running from one side of the head to the other, as in axial
slices.  The head comes from preparation (`data.prepare.head_of`): air is dark, and its ADC of 0 is below any threshold,
so that a rule which took the field of view for the head would call air an infarct.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jaxstroke.metrics.lesions import component_volumes_ml, components
from jaxstroke.models.registry import Rule

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

SMOOTHING_MM = 1.5  # standard deviation of the in-plane Gaussian
MINIMUM_PERFUSION_ML = 1.0  # smaller regions of a perfusion map are noise or vessels
MINIMUM_DIFFUSION_ML = 0.1  # diffusion is sharper, and embolic lesions are small
TMAX_SECONDS = 6.0
RCBF_FRACTION = 0.3
RCBF_DELAY_SECONDS = 4.0  # ventricles and white matter also have little flow, but theirs is not late
ADC_1E6_MM2_S = 620.0
BRIGHT_MADS = 2.0


def tmax_above_6s(images: Mapping[str, Map], head: Mask, spacing_mm: Sequence[float]) -> Map:
    """1 where Tmax, lightly smoothed within the head, exceeds 6 s, regions below 1 mL dropped."""
    late = smooth(images["Tmax"], head, spacing_mm) > TMAX_SECONDS
    return _without_small(head & late, MINIMUM_PERFUSION_ML, spacing_mm)


def rcbf_below_30(images: Mapping[str, Map], head: Mask, spacing_mm: Sequence[float]) -> Map:
    """1 where CBF is below 30 % of the healthy side's mean and Tmax above 4 s, regions below 1 mL dropped.

    Both maps are lightly smoothed within the head.  Only the ratio counts, so CBF may be in any unit.  The mean is over
    tissue: where the software shows no flow at all, in fluid and bone, it is left out.
    """
    if not head.any():
        return np.zeros(head.shape, np.float32)
    cbf = smooth(images["CBF"], head, spacing_mm)
    tmax = smooth(images["Tmax"], head, spacing_mm)
    tissue = healthy_side(cbf, tmax, head) & (np.nan_to_num(images["CBF"]) > 0)
    healthy = cbf[tissue].mean() if tissue.any() else 0.0
    low = (cbf < RCBF_FRACTION * healthy) & (tmax > RCBF_DELAY_SECONDS)
    return _without_small(head & low, MINIMUM_PERFUSION_ML, spacing_mm)


def adc_below_620(images: Mapping[str, Map], head: Mask, spacing_mm: Sequence[float]) -> Map:
    """1 where ADC < 620e-6 mm2/s and DWI is bright, regions below 0.1 mL dropped; ADC comes in 1e-6 mm2/s.

    Bright is above median + 2 x 1.4826 MAD of the head's DWI: two standard deviations, were it normal; the median
    absolute deviation is not moved by the lesion itself.
    """
    if not head.any():
        return np.zeros(head.shape, np.float32)
    adc = smooth(images["ADC"], head, spacing_mm)
    dwi = smooth(images["DWI"], head, spacing_mm)
    median = np.median(dwi[head])
    spread = 1.4826 * np.median(np.abs(dwi[head] - median))
    restricted = (adc < ADC_1E6_MM2_S) & (dwi > median + BRIGHT_MADS * spread)
    return _without_small(head & restricted, MINIMUM_DIFFUSION_ML, spacing_mm)


def smooth(image: Map, head: Mask, spacing_mm: Sequence[float]) -> Map:
    """In-plane Gaussian over the head alone: G(image * head) / G(head), so that the background dims no edge."""
    sigma = (0.0, SMOOTHING_MM / spacing_mm[1], SMOOTHING_MM / spacing_mm[2])
    weight = ndimage.gaussian_filter(head.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(head, np.nan_to_num(image), 0).astype(np.float32), sigma)
    return np.divide(total, weight, out=np.zeros_like(total), where=head)


def first_side(head: Mask) -> Mask:
    """True at columns before the head's mid-plane.

    Each row of each slice that meets the head has a midpoint, halfway between its first and last voxel of it.  The
    mid-plane is column = a + b row + c slice through these points by least squares: it follows a turned or tilted head.
    """
    slices, rows = np.nonzero(head.any(axis=2))
    width = head.shape[2]
    first = head.argmax(axis=2)
    last = width - 1 - head[:, :, ::-1].argmax(axis=2)
    midpoints = (first + last)[slices, rows] / 2
    terms = np.stack([np.ones_like(midpoints), rows - rows.mean(), slices - slices.mean()], axis=1)
    a, b, c = np.linalg.lstsq(terms, midpoints, rcond=None)[0]
    depth, height, columns = np.ogrid[: head.shape[0], : head.shape[1], :width]
    return columns < a + b * (height - rows.mean()) + c * (depth - slices.mean())


def healthy_side(cbf: Map, tmax: Map, head: Mask) -> Mask:
    """The head on that side of the mid-plane where mean Tmax is shorter or, both being equal, mean CBF higher."""
    first = first_side(head)
    sides = [side for side in (head & first, head & ~first) if side.any()]
    return min(sides, key=lambda side: (float(tmax[side].mean()), -float(cbf[side].mean())))


def _without_small(mask: Mask, minimum_ml: float, spacing_mm: Sequence[float]) -> Map:
    """The mask as a score of 0 and 1, without 26-connected regions of less than `minimum_ml`."""
    labels, count = components(mask)
    large = component_volumes_ml(labels, count, spacing_mm) >= minimum_ml
    return (mask & large[labels.astype(np.intp)]).astype(np.float32)


RULES = (
    Rule("tmax_6s", "Tmax > 6 s", needs=("Tmax", "CBF"), predict=tmax_above_6s),
    Rule("rcbf_30", "relative CBF < 30 %", needs=("Tmax", "CBF"), predict=rcbf_below_30),
    Rule("adc_620", "ADC < 620e-6 mm2/s inside bright DWI", needs=("ADC", "DWI"), predict=adc_below_620),
)
