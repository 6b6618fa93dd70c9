"""Tissue values of the phantom, as published for digital perfusion phantoms and in the stroke literature.

Perfusion values follow the digital CT perfusion phantoms in use for validating deconvolution software (healthy,
reduced and severely reduced flow in grey and white matter); attenuation follows the CT literature on early infarct
signs; diffusion ratios follow the MR literature on core, penumbra and tissue that recovers.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Perfusion:
    """Flow in mL/100 g/min, blood volume in mL/100 g, arrival delay in s."""

    cbf: float
    cbv: float
    delay_s: float

    @property
    def mtt_s(self) -> float:
        """Central volume theorem: MTT = 60 CBV / CBF."""
        return 60.0 * self.cbv / self.cbf


GREY = {
    "healthy": Perfusion(cbf=53.0, cbv=3.3, delay_s=1.0),
    "reduced": Perfusion(cbf=16.0, cbv=3.0, delay_s=4.0),
    "severe": Perfusion(cbf=5.3, cbv=0.71, delay_s=9.0),
}
WHITE = {
    "healthy": Perfusion(cbf=25.0, cbv=1.9, delay_s=1.0),
    "reduced": Perfusion(cbf=7.5, cbv=1.7, delay_s=8.0),
    "severe": Perfusion(cbf=2.5, cbv=0.42, delay_s=12.0),
}
VESSEL = Perfusion(cbf=150.0, cbv=10.0, delay_s=0.5)

# True flow, as a ratio to the same tissue on the healthy side: mean and standard deviation between patients.  The
# means are those of the tables above.  The literature's ratios (.19 +- .06 in the core, .34 to .46 around it) are read
# off maps, in which deconvolution shows two thirds of a healthy, short transit and nearly all of a slow one.
CBF_RATIO_CORE = (0.10, 0.03)
CBF_RATIO_PENUMBRA = (0.30, 0.05)

BRAIN_DENSITY_G_PER_ML = 1.04
HAEMATOCRIT_FACTOR = 0.73  # (1 - Hct large vessels) / (1 - Hct capillaries)

# Arterial input: gamma variate in HU, and the noise of one voxel of one frame.
ARTERIAL_ALPHA = 3.0
ARTERIAL_BETA_S = 1.5
ARTERIAL_PEAK_HU = 400.0
FRAME_NOISE_HU = 3.0
FRAME_S = 1.0

# Attenuation in HU.
CT_GREY, CT_WHITE, CT_CSF, CT_VESSEL = 35.0, 29.0, 12.0, 45.0
CT_SKULL, CT_SCALP, CT_BACKGROUND = 1000.0, 35.0, -23.0
CT_TISSUE_SD = 3.0
CT_DROP_AT_HOURS = ((2.0, 2.0), (32.0, 19.0))  # (hours since onset, HU below healthy tissue)

# Diffusion: ADC in 1e-3 mm2/s; T2-weighted signal without diffusion weighting, relative to grey matter.
B_VALUE_S_PER_MM2 = 1000.0
ADC_GREY, ADC_WHITE, ADC_CSF = 0.86, 0.80, 3.0
T2_GREY, T2_WHITE, T2_CSF = 1.0, 0.84, 2.8
ADC_RATIO = {"core": 0.63, "penumbra": 0.90, "recovering": 0.96}
DWI_RATIO = {"core": 1.84, "penumbra": 1.13, "recovering": 1.08}
ADC_OLD_INFARCT, T2_OLD_INFARCT = 1.45, 2.3  # bright on DWI by T2 alone where little tissue is lost ("shine-through")
ADC_WHITE_MATTER_DISEASE, T2_WHITE_MATTER_DISEASE = 1.05, 1.25


def ct_drop_hu(hours: float) -> float:
    """Water uptake with time: how many HU infarcted tissue lies below healthy tissue."""
    (first_h, first), (last_h, last) = CT_DROP_AT_HOURS
    return first + (last - first) * (min(max(hours, first_h), last_h) - first_h) / (last_h - first_h)
