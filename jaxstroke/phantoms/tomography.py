"""Unenhanced CT in Hounsfield units."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from jaxstroke.phantoms import tissues
from jaxstroke.phantoms.anatomy import Anatomy


def still(anatomy: Anatomy, core: np.ndarray, old_infarct: np.ndarray, texture: np.ndarray, hours: float) -> np.ndarray:
    """Attenuation without noise: tissue by its fractions, infarcts darker with the hours since onset."""
    tissue = tissues.CT_GREY * anatomy.grey + tissues.CT_WHITE * anatomy.white
    tissue -= anatomy.tissue * tissues.ct_drop_hu(hours) * core
    tissue -= 4.0 * anatomy.white_matter_disease
    tissue += (tissues.CT_CSF + 2.0 - tissue) * old_infarct * (anatomy.tissue > 0.1)
    fluid = anatomy.sulcal_fluid + anatomy.ventricle
    head = np.clip(anatomy.tissue + fluid + anatomy.skull + anatomy.soft, 0.0, 1.0)
    image = tissue + tissues.CT_CSF * fluid + (tissues.CT_VESSEL - tissues.CT_CSF) * anatomy.vessel
    image += tissues.CT_SKULL * (1.0 + 0.15 * texture) * anatomy.skull + tissues.CT_SCALP * anatomy.soft
    return (image + tissues.CT_BACKGROUND * (1.0 - head)).astype(np.float32)


def scanned(rng: np.random.Generator, still_hu: np.ndarray, noise_hu: float) -> np.ndarray:
    """Adds the noise of a reconstruction with a soft kernel; the air around stays as the export writes it."""
    noise = ndimage.gaussian_filter(rng.standard_normal(still_hu.shape, dtype=np.float32), (0, 0.6, 0.6), truncate=2.0)
    noise *= np.float32(noise_hu / 0.47)  # a Gaussian of .6 pixels keeps .47 of white noise
    return np.where(still_hu > tissues.CT_BACKGROUND + 1.0, still_hu + noise, tissues.CT_BACKGROUND)
