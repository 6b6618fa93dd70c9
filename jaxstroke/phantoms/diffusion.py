"""Diffusion MR: two signals from T2 and diffusion, their noise, and the ADC that is computed from them.

    S(b) = bias(r) S0(r) exp(-b ADC(r)),   ADC = ln(S(0) / S(b)) / b

Noise is Rician (the magnitude of a complex signal) and both signals are resampled once, as scanners do, so that
negative values occur.  Near air in the skull base the field is inhomogeneous: signal piles up there or is lost.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from jaxstroke.phantoms import tissues
from jaxstroke.phantoms.anatomy import Anatomy, Head
from jaxstroke.phantoms.fields import Field

_B = tissues.B_VALUE_S_PER_MM2 * 1e-3  # so that ADC stands in 1e-3 mm2/s


@dataclasses.dataclass(frozen=True)
class Contrast:
    """ADC in 1e-3 mm2/s and the signal without diffusion weighting relative to grey matter; (D, H, W)."""

    adc: np.ndarray
    t2: np.ndarray


def contrast(anatomy: Anatomy, acute: np.ndarray, halo: np.ndarray, old: np.ndarray, stage: Stage) -> Contrast:
    """The tissue's own values, then what each disease does to them in the share of the voxel that it holds."""
    fluid = anatomy.ventricle + anatomy.sulcal_fluid
    matter = np.maximum(anatomy.tissue + fluid, 1e-3)
    adc = (tissues.ADC_GREY * anatomy.grey + tissues.ADC_WHITE * anatomy.white + tissues.ADC_CSF * fluid) / matter
    t2 = (tissues.T2_GREY * anatomy.grey + tissues.T2_WHITE * anatomy.white + tissues.T2_CSF * fluid) / matter
    t2 = t2 * np.minimum(matter, 1.0)
    solid = np.clip(anatomy.tissue, 0.0, 1.0)
    disease = anatomy.white_matter_disease
    adc += (tissues.ADC_WHITE_MATTER_DISEASE - tissues.ADC_WHITE) * disease
    t2 *= 1 + (tissues.T2_WHITE_MATTER_DISEASE - 1) * disease
    adc += (tissues.ADC_OLD_INFARCT - adc) * old * solid * stage.old_loss
    t2 *= 1 + (tissues.T2_OLD_INFARCT - 1) * old * solid
    for membership, adc_ratio, dwi_ratio in (
        (halo * (1 - acute), tissues.ADC_RATIO["penumbra"], tissues.DWI_RATIO["penumbra"]),
        (acute, stage.adc_ratio, stage.dwi_ratio),
    ):
        share = membership * solid
        # The published DWI ratio is reached by diffusion and T2 together.
        t2_ratio = dwi_ratio / np.exp(_B * tissues.ADC_GREY * (1 - adc_ratio))
        adc *= 1 + (adc_ratio - 1) * share
        t2 *= 1 + (t2_ratio - 1) * share
    return Contrast(adc.astype(np.float32), t2.astype(np.float32))


@dataclasses.dataclass(frozen=True)
class Stage:
    """How old the infarct is: early, diffusion is restricted; after a week ADC rises while DWI stays bright."""

    adc_ratio: float
    dwi_ratio: float
    old_loss: float  # how much tissue an old infarct has lost: little, and it shines through on DWI

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Stage:
        subacute = rng.random() < 0.2
        adc = rng.normal(0.85, 0.07) if subacute else rng.normal(tissues.ADC_RATIO["core"], 0.06)
        dwi = rng.normal(1.55, 0.2) if subacute else rng.normal(tissues.DWI_RATIO["core"], 0.25)
        return cls(float(np.clip(adc, 0.5, 1.0)), float(np.clip(dwi, 1.25, 2.8)), float(rng.uniform(0.3, 1.0)))


def skull_base(anatomy: Anatomy, head: Head) -> np.ndarray:
    """Susceptibility near the air of the petrous bone and the frontal sinus: above 0 pile-up, below 0 loss."""
    x, y, z = anatomy.positions
    petrous = np.exp(-(((np.abs(x) - 42) / 11) ** 2 + ((y + 12) / 12) ** 2 + ((z + 36) / 8) ** 2))
    sinus = np.exp(-((x / 18) ** 2 + ((y - 68) / 10) ** 2 + ((z + 18) / 10) ** 2))
    return ((petrous + sinus) * (0.35 + head.texture.at(anatomy.positions))).astype(np.float32)


def scan(
    rng: np.random.Generator,
    anatomy: Anatomy,
    head: Head,
    tissue: Contrast,
    *,
    noise: float,
    outside: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """DWI (relative to the b = 0 signal of grey matter) and ADC in 1e-3 mm2/s.

    Args:
      noise: standard deviation of each channel, relative to the b = 0 signal of grey matter.
      outside: signal of scalp and skull where these are not stripped.
    """
    bias = np.exp(0.12 * Field.draw(rng, 40.0).at(anatomy.positions))
    base = skull_base(anatomy, head)
    signal = []
    unweighted = tissue.t2 * bias * np.exp(np.clip(0.9 * base, -1.5, 0.8))
    weighted = unweighted * np.exp(-_B * tissue.adc) * np.exp(np.clip(0.3 * base, -0.3, 0.5))
    for clean in (unweighted, weighted):
        if outside is not None:
            clean = clean + outside * (1.0 if clean is unweighted else 0.25)
        channel = clean + np.float32(noise) * rng.standard_normal(clean.shape, dtype=np.float32)
        other = np.float32(noise) * rng.standard_normal(clean.shape, dtype=np.float32)
        magnitude = np.sqrt(channel * channel + other * other)
        # The scanner resamples with a sharp kernel, which overshoots at edges, below 0 as well.
        blurred = ndimage.gaussian_filter(magnitude, (0, 0.8, 0.8), truncate=2.5)
        signal.append(magnitude + 0.4 * (magnitude - blurred))
    first, second = (np.maximum(np.abs(one), 0.2 * noise) for one in signal)
    return signal[1].astype(np.float32), (np.log(first / second) / _B).astype(np.float32)
