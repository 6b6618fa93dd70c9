"""Apparent diffusion coefficients, whatever unit a file is in."""

from __future__ import annotations

import numpy as np

# Medians of a head are near .001, 1 and 1000 in the three units in use; the bounds lie midway on a logarithmic scale.
_MM2_PER_S_BELOW = 0.03
_THOUSANDTHS_BELOW = 30.0


def micro_mm2_per_s(adc: np.ndarray) -> np.ndarray:
    """Brings an ADC map in mm2/s, 1e-3 mm2/s or 1e-6 mm2/s to 1e-6 mm2/s.

    The unit is told by the median of the positive voxels, which is near 1e-3 mm2/s in every head.
    """
    positive = adc[adc > 0]
    if not positive.size:
        return adc
    median = float(np.median(positive))
    factor = 1e6 if median < _MM2_PER_S_BELOW else 1e3 if median < _THOUSANDTHS_BELOW else 1.0
    return adc * np.float32(factor)
