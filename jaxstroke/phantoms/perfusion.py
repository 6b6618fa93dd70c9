"""CT perfusion: residue functions, tissue curves, and the maps that a perfusion package makes of them.

A tissue's curve is  c(t) = rho / kappa CBF (a * R)(t - delay),  R(t) = exp(-t / MTT),  with the arterial input a(t)
a gamma variate.  The package subtracts the mean of the frames before arrival, smooths in plane, and inverts the
block-circulant convolution matrix by truncated singular values; CBF is the maximum of the impulse response, Tmax its
time, CBV the ratio of areas, MTT = 60 CBV / CBF.

All of that but the maximum is linear in the frames.  Its matrix has a dozen singular values of any size, so that the
maps depend on the frames through a dozen numbers a voxel.  Without the 4D series these numbers are drawn directly:
their mean from tabulated curves, and their noise as independent normal numbers, for the right singular vectors are
orthonormal.  This is the same distribution as from frames with white noise, at a twentieth of the cost.  With the
4D series the frames are made on the voxel grid and projected.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from scipy import ndimage

from jaxstroke.phantoms import tissues
from jaxstroke.phantoms.anatomy import Anatomy
from jaxstroke.phantoms.lesions import Lesion

_FINE_S = 0.25
_TRUNCATION = 0.12  # of the largest singular value
_KEPT = 0.02  # singular values of the whole linear map below this share of its largest carry nothing visible
_LONGEST_TMAX_S = 25.0
_DELAYS_S = np.arange(0.0, 20.0 + _FINE_S, _FINE_S)
_TRANSITS_S = np.geomspace(1.5, 40.0, 48)


@dataclasses.dataclass(frozen=True)
class State:
    """What flows where: mL/100 g/min, mL/100 g, s; (D, H, W) float32."""

    cbf: np.ndarray
    cbv: np.ndarray
    delay_s: np.ndarray

    @property
    def mtt_s(self) -> np.ndarray:
        return 60.0 * self.cbv / np.maximum(self.cbf, 1e-3)


@dataclasses.dataclass(frozen=True)
class Circulation:
    """What differs between patients besides the lesion."""

    flow: float  # factor on all CBF
    stenosis_side: int  # +1 right, -1 left, 0 none
    stenosis_delay_s: float
    core_ratio: float
    penumbra_ratio: float
    reperfused: float  # how far flow has come back to tissue that is dead all the same
    old_infarct_ratio: float

    @classmethod
    def draw(cls, rng: np.random.Generator, lesion_side: int) -> Circulation:
        stenosed = rng.random() < 0.18
        same_side = rng.random() < 0.7
        return cls(
            flow=float(rng.uniform(0.85, 1.15)),
            stenosis_side=(lesion_side if same_side else -lesion_side) if stenosed else 0,
            stenosis_delay_s=float(rng.uniform(1.0, 3.5)),
            core_ratio=float(np.clip(rng.normal(*tissues.CBF_RATIO_CORE), 0.04, 0.28)),
            reperfused=float(rng.uniform(0.3, 0.8)) if rng.random() < 0.08 else 0.0,
            penumbra_ratio=float(np.clip(rng.normal(*tissues.CBF_RATIO_PENUMBRA), 0.20, 0.55)),
            old_infarct_ratio=float(rng.uniform(0.08, 0.3)),
        )


def state(
    anatomy: Anatomy, lesions: list[Lesion], old_infarct: np.ndarray, texture: np.ndarray, patient: Circulation
) -> State:
    """Flow, volume and delay in each voxel.

    The published values give, for each tissue, the ratio CBV / CBF (so the MTT) and the delay of reduced and of
    severely reduced flow; the patient's ratios say how far the flow falls.
    """
    open_again = np.float32(1.0 - patient.reperfused)
    core, penumbra, oligemia = (open_again * _any(lesions, name, anatomy) for name in ("core", "penumbra", "oligemia"))
    cbf, cbv, delay = np.zeros((3, *anatomy.grey.shape), np.float32)
    for fraction, table in ((anatomy.grey, tissues.GREY), (anatomy.white, tissues.WHITE)):
        healthy, reduced, severe = table["healthy"], table["reduced"], table["severe"]
        flow = _mix(1.0, 0.8, patient.penumbra_ratio, patient.core_ratio, oligemia, penumbra, core)
        transit = _mix(healthy.mtt_s, 1.5 * healthy.mtt_s, reduced.mtt_s, severe.mtt_s, oligemia, penumbra, core)
        late = _mix(healthy.delay_s, 3.0, reduced.delay_s, severe.delay_s, oligemia, penumbra, core)
        flow = flow * healthy.cbf
        cbf += fraction * flow
        cbv += fraction * flow * transit / 60.0
        delay += fraction * late
    tissue = np.maximum(anatomy.tissue, 1e-3)
    delay = np.where(anatomy.tissue > 0.02, delay / tissue, 1.0)
    disease = anatomy.white_matter_disease
    cbf *= (1 - 0.4 * disease) * (1 - (1 - patient.old_infarct_ratio) * old_infarct)
    cbv *= (1 - 0.3 * disease) * (1 - (1 - 0.8 * patient.old_infarct_ratio) * old_infarct)
    delay += 1.5 * disease + 2.5 * old_infarct
    variation = (1 + 0.10 * texture) * patient.flow
    cbf, cbv = cbf * variation, cbv * variation
    cbf += anatomy.vessel * tissues.VESSEL.cbf
    cbv += anatomy.vessel * tissues.VESSEL.cbv
    if patient.stenosis_side:
        delay += patient.stenosis_delay_s * (anatomy.side == patient.stenosis_side) * (anatomy.territory < 3)
    return State(cbf.astype(np.float32), cbv.astype(np.float32), delay.astype(np.float32))


def _any(lesions: list[Lesion], name: str, anatomy: Anatomy) -> np.ndarray:
    return functools.reduce(np.maximum, (getattr(one, name) for one in lesions), np.zeros_like(anatomy.grey))


def _mix(healthy: float, oligemic: float, reduced: float, severe: float, oligemia, penumbra, core) -> np.ndarray:
    value = healthy + (oligemic - healthy) * oligemia
    value = value + (reduced - value) * penumbra
    return value + (severe - value) * core


@dataclasses.dataclass(frozen=True)
class Package:
    """The scanner's protocol and the linear part of the perfusion software.

    Attributes:
      frames: number of time points, one a second.
      arrival_s: when contrast reaches the artery; the frames before it are the baseline.
      curves: (transits, delays, frames) tissue curves for unit CBF, HU.
      project: (rank, frames) orthonormal rows; takes frames to the numbers on which the maps depend.
      response: (frames, rank) from these numbers to the impulse response k(t).
      area: (rank,) from these numbers to CBV.
    """

    frames: int
    arrival_s: int
    curves: np.ndarray
    project: np.ndarray
    response: np.ndarray
    area: np.ndarray

    @classmethod
    @functools.lru_cache(maxsize=4)
    def of(cls, frames: int, arrival_s: int) -> Package:
        fine = np.arange(0.0, frames, _FINE_S)
        artery_fine = arterial_input(fine - arrival_s)
        to_flow = tissues.BRAIN_DENSITY_G_PER_ML / tissues.HAEMATOCRIT_FACTOR / 6000.0
        step = int(tissues.FRAME_S / _FINE_S)
        curves = np.zeros((_TRANSITS_S.size, _DELAYS_S.size, frames), np.float32)
        for i, transit in enumerate(_TRANSITS_S):
            curve = np.convolve(artery_fine, np.exp(-fine / transit))[: fine.size] * _FINE_S * to_flow
            for j in range(_DELAYS_S.size):
                curves[i, j] = np.concatenate([np.zeros(j), curve])[: fine.size : step]
        artery = artery_fine[::step]
        size = 2 * frames
        padded = np.concatenate([artery, np.zeros(frames)])
        circulant = padded[(np.arange(size)[:, None] - np.arange(size)[None, :]) % size] * to_flow * tissues.FRAME_S
        u, s, vt = np.linalg.svd(circulant)
        inverse = np.where(s > _TRUNCATION * s[0], 1.0 / s, 0.0)
        deconvolve = ((vt.T * inverse) @ u.T)[:frames, :frames]
        volume = np.ones((1, frames)) / artery.sum() / (to_flow * 60.0)
        baseline = np.eye(frames)
        baseline[:, :arrival_s] -= 1.0 / arrival_s
        weight = np.abs(deconvolve).max() / volume.max()  # so that both kinds of row count in the choice of the rank
        rows = np.concatenate([deconvolve, weight * volume]) @ baseline
        left, strength, right = np.linalg.svd(rows, full_matrices=False)
        rank = int((strength > _KEPT * strength[0]).sum())
        left = left[:, :rank] * strength[:rank]
        as32 = functools.partial(np.ascontiguousarray, dtype=np.float32)
        return cls(frames, arrival_s, curves, as32(right[:rank]), as32(left[:-1]), as32(left[-1] / weight))


def arterial_input(seconds: np.ndarray) -> np.ndarray:
    """Gamma variate that peaks alpha beta seconds after arrival, HU."""
    alpha, beta = tissues.ARTERIAL_ALPHA, tissues.ARTERIAL_BETA_S
    t = np.maximum(seconds, 0.0) / (alpha * beta)
    return tissues.ARTERIAL_PEAK_HU * t**alpha * np.exp(alpha * (1.0 - t))


@dataclasses.dataclass(frozen=True)
class Motion:
    """What registration of the frames left over: from one frame on, a share of a shift by whole pixels."""

    frame: int
    shift: tuple[int, int]
    share: float

    @classmethod
    def draw(cls, rng: np.random.Generator, frames: int) -> Motion:
        grade = int(rng.choice(3, p=(0.6, 0.3, 0.1)))
        frame = int(rng.integers(frames // 4, 3 * frames // 4))
        shift = [(0, 0), [(0, 1), (1, 0)][int(rng.integers(2))], (1, -1)][grade]
        return cls(frame, shift, float(rng.uniform(0.1, 0.3) * (1 + grade)) if grade else 0.0)

    def applied(self, image: np.ndarray) -> np.ndarray:
        return (1 - self.share) * image + self.share * np.roll(image, self.shift, axis=(-2, -1))


def coefficients(
    rng: np.random.Generator, package: Package, flow: State, still_hu: np.ndarray, motion: Motion, noise_hu: float
) -> np.ndarray:
    """The numbers on which the maps depend, (rank, D, H, W), drawn without making the frames."""
    index, strength = _bins(flow), flow.cbf
    early, late = (
        _product(package.project[:, part], package.curves.reshape(-1, package.frames)[:, part].T)
        for part in (slice(motion.frame), slice(motion.frame, None))
    )
    if motion.share == 0:
        early, late = early + late, late
    found = np.empty((package.project.shape[0], *index.shape), np.float32)
    after = package.project[:, motion.frame :].sum(axis=1)
    jump = motion.applied(still_hu) - still_hu if motion.share else None
    for r in range(found.shape[0]):
        np.multiply(early[r][index], strength, out=found[r])
        if jump is not None:
            found[r] += motion.applied(late[r][index] * strength) + after[r] * jump
        found[r] += np.float32(noise_hu) * rng.standard_normal(index.shape, dtype=np.float32)
    return found


def series(
    rng: np.random.Generator, package: Package, flow: State, still_hu: np.ndarray, motion: Motion, noise_hu: float
) -> np.ndarray:
    """The frames themselves, (T, D, H, W) in HU."""
    index, curves = _bins(flow), package.curves.reshape(-1, package.frames)
    frames = np.empty((package.frames, *index.shape), np.float32)
    for t in range(package.frames):
        frame = still_hu + curves[:, t][index] * flow.cbf
        frames[t] = motion.applied(frame) if t >= motion.frame and motion.share else frame
        frames[t] += np.float32(noise_hu) * rng.standard_normal(index.shape, dtype=np.float32)
    return frames


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A matrix product without BLAS, whose last bits depend on its number of threads."""
    return np.einsum("ij,jk->ik", left, np.ascontiguousarray(right), optimize=False)


def _bins(flow: State) -> np.ndarray:
    low, high = np.log(_TRANSITS_S[[0, -1]])
    transit = (np.log(np.maximum(flow.mtt_s, 0.1)) - low) * ((_TRANSITS_S.size - 1) / (high - low))
    transit = np.clip(np.rint(transit), 0, _TRANSITS_S.size - 1).astype(np.int32)
    delay = np.clip(np.rint(flow.delay_s / _FINE_S), 0, _DELAYS_S.size - 1).astype(np.int32)
    return transit * _DELAYS_S.size + delay


def maps(package: Package, found: np.ndarray, shown: np.ndarray, smooth_pixels: float) -> dict[str, np.ndarray]:
    """CBF, CBV, MTT and Tmax (D, H, W) from the projected frames (rank, D, H, W), zero where not `shown`."""
    smooth = ndimage.gaussian_filter(found, (0, 0, smooth_pixels, smooth_pixels), truncate=2.5)
    inside = smooth[:, shown]
    response = _product(package.response, inside)
    searched = response[: int(_LONGEST_TMAX_S)]
    peak = searched.argmax(axis=0)
    here = np.arange(peak.size)
    cbf = np.maximum(searched[peak, here], 0.0)
    before, after = response[np.maximum(peak - 1, 0), here], response[peak + 1, here]
    bend = 2 * cbf - before - after
    offset = np.where(peak > 0, 0.5 * (after - before) / np.maximum(bend, 1e-6), 0.0)
    tmax = (peak + np.clip(offset, -0.5, 0.5)) * tissues.FRAME_S
    cbv = np.maximum(_product(package.area[None], inside)[0], 0.0)
    mtt = np.where(cbf > 0.5, np.minimum(60.0 * cbv / np.maximum(cbf, 0.5), 30.0), 0.0)
    result = {}
    for name, values in (("CBF", cbf), ("CBV", cbv), ("MTT", mtt), ("Tmax", tmax)):
        result[name] = np.zeros(shown.shape, np.float32)
        result[name][shown] = values
    return result
