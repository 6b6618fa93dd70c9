"""From probabilities to a mask, by a rule; nothing is done unless the rule says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxstroke.metrics.lesions import component_volumes_ml, components
from jaxstroke.metrics.overlap import Mask, as_mask
from jaxstroke.runs.calibration import Rule


def mask_of(probabilities: np.ndarray, rule: Rule, spacing_mm: Sequence[float]) -> Mask:
    """The mask of one target's (D, H, W) probabilities."""
    mask = probabilities > rule.threshold
    if rule.smallest_lesion_ml:
        mask = without_small(mask, rule.smallest_lesion_ml, spacing_mm)
    return largest_component(mask) if rule.largest_component else mask


def without_small(mask: ArrayLike, smallest_ml: float, spacing_mm: Sequence[float]) -> Mask:
    """The 26-connected components of a (D, H, W) mask that are of this volume or more."""
    labels, count = components(mask)
    large = component_volumes_ml(labels, count, spacing_mm) >= smallest_ml
    large[0] = False
    return large[labels]


def largest_component(mask: ArrayLike) -> Mask:
    """The largest 26-connected component of a (D, H, W) mask; of equals the first in scan order; empty stays empty."""
    labels, count = components(mask)
    if count == 0:
        return as_mask(mask)
    volumes = component_volumes_ml(labels, count, spacing_mm=(1.0, 1.0, 1.0))
    return labels == volumes.argmax()
