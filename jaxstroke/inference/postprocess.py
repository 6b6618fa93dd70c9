"""From probabilities to a mask, and what may be done to it then; nothing is done unless asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxstroke.experiment import Evaluation
from jaxstroke.metrics.lesions import component_volumes_ml, components
from jaxstroke.metrics.overlap import Mask, as_mask


def mask_of(probabilities: np.ndarray, evaluation: Evaluation) -> Mask:
    """The mask of one target's (D, H, W) probabilities, as the experiment makes it."""
    mask = probabilities > evaluation.threshold
    return largest_component(mask) if evaluation.largest_component else mask


def largest_component(mask: ArrayLike) -> Mask:
    """The largest 26-connected component of a (D, H, W) mask; of equals the first in scan order; empty stays empty."""
    labels, count = components(mask)
    if count == 0:
        return as_mask(mask)
    volumes = component_volumes_ml(labels, count, spacing_mm=(1.0, 1.0, 1.0))
    return labels == volumes.argmax()
