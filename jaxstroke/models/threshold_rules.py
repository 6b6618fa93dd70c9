"""The rules that clinics read lesions by: a threshold on a map in physical units, no weights.

- `tmax_6s`: tissue at risk is where Tmax > 6 s (Olivot et al., Stroke 40, 469, 2009).
- `rcbf_30`: infarct core is where CBF < 30 % of the healthy side's (Campbell et al., Stroke 42, 3435, 2011).
- `adc_620`: infarct core is bright on DWI with ADC < 620e-6 mm2/s (Purushotham et al., Int J Stroke 10, 348, 2015).

Smoothing, smallest regions, the brain's outline and what counts as bright are this project's own, simple on purpose.

Maps are (D, H, W), slice by row by column, with columns running from one side of the head to the other, as in axial
slices, and skull-stripped.  Brain is where CBF (or DWI) is above zero, gaps and holes of each slice closed.
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
CLOSING_MM = 3.0  # gaps up to twice this wide in the brain's outline are closed
MINIMUM_PERFUSION_ML = 1.0  # smaller regions of a perfusion map are noise or vessels
MINIMUM_DIFFUSION_ML = 0.1  # diffusion is sharper, and embolic lesions are small
TMAX_SECONDS = 6.0
RCBF_FRACTION = 0.3
RCBF_DELAY_SECONDS = 4.0  # ventricles and white matter also have little flow, but theirs is not late
ADC_1E6_MM2_S = 620.0
BRIGHT_MADS = 2.0


def tmax_above_6s(images: Mapping[str, Map], spacing_mm: Sequence[float]) -> Map:
    """1 where Tmax, lightly smoothed within the brain, exceeds 6 s, regions below 1 mL dropped."""
    brain = brain_of(images["CBF"], spacing_mm)
    late = smooth(images["Tmax"], brain, spacing_mm) > TMAX_SECONDS
    return _without_small(brain & late, MINIMUM_PERFUSION_ML, spacing_mm)


def rcbf_below_30(images: Mapping[str, Map], spacing_mm: Sequence[float]) -> Map:
    """1 where CBF is below 30 % of the healthy side's median and Tmax above 4 s, regions below 1 mL dropped.

    Both maps are lightly smoothed within the brain.  Only the ratio counts, so CBF may be in any unit.
    """
    brain = brain_of(images["CBF"], spacing_mm)
    if not brain.any():
        return np.zeros(brain.shape, np.float32)
    cbf = smooth(images["CBF"], brain, spacing_mm)
    tmax = smooth(images["Tmax"], brain, spacing_mm)
    healthy = np.median(cbf[healthy_side(cbf, tmax, brain)])
    low = (cbf < RCBF_FRACTION * healthy) & (tmax > RCBF_DELAY_SECONDS)
    return _without_small(brain & low, MINIMUM_PERFUSION_ML, spacing_mm)


def adc_below_620(images: Mapping[str, Map], spacing_mm: Sequence[float]) -> Map:
    """1 where ADC < 620e-6 mm2/s and DWI is bright, regions below 0.1 mL dropped; ADC comes in 1e-6 mm2/s.

    Bright is above median + 2 x 1.4826 MAD of the brain's DWI: two standard deviations, were it normal; the median
    absolute deviation is not moved by the lesion itself.
    """
    brain = brain_of(images["DWI"], spacing_mm)
    if not brain.any():
        return np.zeros(brain.shape, np.float32)
    adc = smooth(images["ADC"], brain, spacing_mm)
    dwi = smooth(images["DWI"], brain, spacing_mm)
    median = np.median(dwi[brain])
    spread = 1.4826 * np.median(np.abs(dwi[brain] - median))
    restricted = (adc < ADC_1E6_MM2_S) & (dwi > median + BRIGHT_MADS * spread)
    return _without_small(brain & restricted, MINIMUM_DIFFUSION_ML, spacing_mm)


def brain_of(image: Map, spacing_mm: Sequence[float]) -> Mask:
    """Where the image is above zero, each slice's narrow gaps and enclosed holes closed."""
    radii = [max(1, round(CLOSING_MM / edge)) for edge in spacing_mm[1:]]
    rows, columns = np.ogrid[-radii[0] : radii[0] + 1, -radii[1] : radii[1] + 1]
    disc = (rows / radii[0]) ** 2 + (columns / radii[1]) ** 2 <= 1
    margin = [(radius, radius) for radius in radii]  # so that closing does not erode at the edge of the array
    inside = tuple(slice(radius, -radius) for radius in radii)
    brain = np.zeros(image.shape, bool)
    for number, positive in enumerate(np.nan_to_num(image) > 0):
        closed = ndimage.binary_closing(np.pad(positive, margin), disc)[inside]
        brain[number] = ndimage.binary_fill_holes(closed)
    return brain


def smooth(image: Map, brain: Mask, spacing_mm: Sequence[float]) -> Map:
    """In-plane Gaussian over brain voxels alone: G(image * brain) / G(brain), so that the background dims no edge."""
    sigma = (0.0, SMOOTHING_MM / spacing_mm[1], SMOOTHING_MM / spacing_mm[2])
    weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(brain, np.nan_to_num(image), 0).astype(np.float32), sigma)
    return np.divide(total, weight, out=np.zeros_like(total), where=brain)


def first_side(brain: Mask) -> Mask:
    """True at columns before the brain's mid-plane.

    Each row of each slice that holds brain has a midpoint, halfway between its first and last brain voxel.  The
    mid-plane is column = a + b row + c slice through these points by least squares: it follows a turned or tilted head.
    """
    slices, rows = np.nonzero(brain.any(axis=2))
    width = brain.shape[2]
    first = brain.argmax(axis=2)
    last = width - 1 - brain[:, :, ::-1].argmax(axis=2)
    midpoints = (first + last)[slices, rows] / 2
    terms = np.stack([np.ones_like(midpoints), rows - rows.mean(), slices - slices.mean()], axis=1)
    a, b, c = np.linalg.lstsq(terms, midpoints, rcond=None)[0]
    depth, height, columns = np.ogrid[: brain.shape[0], : brain.shape[1], :width]
    return columns < a + b * (height - rows.mean()) + c * (depth - slices.mean())


def healthy_side(cbf: Map, tmax: Map, brain: Mask) -> Mask:
    """The brain on that side of the mid-plane where mean Tmax is shorter or, both being equal, mean CBF higher."""
    first = first_side(brain)
    sides = [side for side in (brain & first, brain & ~first) if side.any()]
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
