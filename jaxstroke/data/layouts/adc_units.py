"""Apparent diffusion coefficients, whatever unit a file is in."""

from __future__ import annotations

import numpy as np

# Medians of a head are near .001, 1 and 1000 in the three units in use; the bounds lie midway on a logarithmic scale.
_MM2_PER_S_BELOW = 0.03
_THOUSANDTHS_BELOW = 30.0
_MICRO = {"mm2/s": 1e6, "1e-3 mm2/s": 1e3, "1e-6 mm2/s": 1.0}


def micro_mm2_per_s(adc: np.ndarray) -> np.ndarray:
    """Brings an ADC map in mm2/s, 1e-3 mm2/s or 1e-6 mm2/s to 1e-6 mm2/s.

    The unit is told by the median of the positive voxels, which is near 1e-3 mm2/s in every head.
    """
    unit = unit_of(adc)
    return adc if unit is None else adc * np.float32(_MICRO[unit])


def unit_of(adc: np.ndarray) -> str | None:
    """The unit of a map; None where no voxel is positive."""
    positive = adc[adc > 0]
    if not positive.size:
        return None
    median = float(np.median(positive))
    return "mm2/s" if median < _MM2_PER_S_BELOW else "1e-3 mm2/s" if median < _THOUSANDTHS_BELOW else "1e-6 mm2/s"
