"""Studies as ISLES 2018 lies on disk: CT, CT perfusion maps, optionally the 4D series, and the lesion on later MR.

Kept quirks: the sform is the identity while pixdim is right, CT is int32 with a background of -23, CBF and CBV are
unsigned integers in units of the software, MTT and Tmax are float64 seconds, the lesion is named OT, and two of
three cases are two slabs, A and B, of one patient.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scipy import ndimage

from jaxstroke.phantoms import lesions, nifti_files, perfusion, tissues, tomography
from jaxstroke.phantoms.anatomy import Anatomy, Head
from jaxstroke.phantoms.fields import Sampling, centred

_PLANE = (256, 256)
_BOX = (224, 192)  # rows and columns about the middle that can hold a head
_MAP_UNITS = {"CBF": 13.0, "CBV": 18.0}  # the software's integers per mL/100 g/min and per mL/100 g
_SLAB_ODDS = {2: 51, 4: 11}  # slices a case where two cases share a patient
_SINGLE_ODDS = {4: 8, 8: 9, 16: 13, 22: 2}
_SLICE_MM = {2: (10.0,), 4: (8.0, 10.0), 8: (8.0, 10.0), 16: (5.0, 6.0, 8.0), 22: (5.0,)}
_DRIFT = 0.25  # from the CT to the MR on which the reference is drawn
_LARGEST_COUNT = 5
_SMALLEST_ML = 0.15


def identity(index: int) -> tuple[str, str]:
    """The names of a case and of its patient: of three cases, the first two are slabs of one patient."""
    return f"case_{index + 1}", f"patient_{2 * (index // 3) + 1 + (index % 3 == 2)}"


def write_study(folder: Path, seed: int, index: int, *, with_ctp: bool) -> None:
    study = make_study(seed, index, with_ctp=with_ctp)
    case, _ = identity(index)
    numbers = np.random.default_rng([seed, index, 2]).choice(90_000, size=7, replace=False) + 300_000
    for number, (name, (array, affine)) in zip(numbers, study.items(), strict=False):
        stem = f"SMIR.Brain.XX.O.{name}.{number}"
        nifti_files.write(folder / "TRAINING" / case / stem / f"{stem}.nii", array, affine, sform_identity=True)


def finish(folder: Path, seed: int, cases: int) -> None:
    """This layout has no table."""


def make_study(seed: int, index: int, *, with_ctp: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The arrays of one case by modality word, (D, H, W) or (T, D, H, W), with their affine."""
    scene = _scene(seed, index)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 1])))
    package = perfusion.Package.of(scene.frames, scene.arrival_s)
    noise_hu = tissues.FRAME_NOISE_HU * float(rng.uniform(0.8, 1.8))
    motion = perfusion.Motion.draw(rng, scene.frames)
    ct = tomography.scanned(rng, scene.still_hu, tissues.CT_TISSUE_SD * float(rng.uniform(0.8, 1.2)))
    images: dict[str, np.ndarray] = {"CT": np.rint(ct).astype(np.int32)}
    if with_ctp:
        series = perfusion.series(rng, package, scene.flow, scene.still_hu, motion, noise_hu)
        projected = np.einsum("rt,tdhw->rdhw", package.project, series, optimize=False)
        in_head = scene.still_hu > tissues.CT_BACKGROUND + 1.0
        images["CT_4DPWI"] = np.where(in_head, series, np.float32(tissues.CT_BACKGROUND))
    else:
        projected = perfusion.coefficients(rng, package, scene.flow, scene.still_hu, motion, noise_hu)
    maps = perfusion.maps(package, projected, _shown(ct, scene.inside), float(rng.uniform(1.2, 1.8)))
    for name, units in _MAP_UNITS.items():
        images[f"CT_{name}"] = np.rint(maps[name] * units).astype(np.uint16)
    for name in ("MTT", "Tmax"):
        images[f"CT_{name}"] = maps[name].astype(np.float64)
    images["OT"] = scene.drawn.astype(np.uint8)
    air = {"CT": tissues.CT_BACKGROUND, "CT_4DPWI": tissues.CT_BACKGROUND}
    return {name: _on_canvas(image, scene.grid, air.get(name, 0.0)) for name, image in images.items()}


@dataclasses.dataclass(frozen=True)
class _Scene:
    """What lies in front of the scanner in one case, before any noise."""

    grid: Sampling
    inside: np.ndarray  # bool: the brain
    flow: perfusion.State
    still_hu: np.ndarray
    drawn: np.ndarray  # bool: the reference
    frames: int
    arrival_s: int


def _scene(seed: int, index: int) -> _Scene:
    """Draws the patient from the number of his first case, and takes the case's slab of him."""
    slab = index % 3 if index % 3 < 2 else None
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index - (slab or 0)])))
    odds = _SINGLE_ODDS if slab is None else _SLAB_ODDS
    count = int(rng.choice(list(odds), p=np.array(list(odds.values())) / sum(odds.values())))
    grid = _grid(rng, count * (1 if slab is None else 2), float(rng.choice(_SLICE_MM[count])))
    head = Head.draw(rng)
    anatomy = head.at(grid.positions())
    side = int(rng.choice((-1, 1)))
    found = _lesions(rng, anatomy, grid.voxel_ml, side, both_slabs=slab is not None)
    old = _old_infarct(rng, anatomy, grid.voxel_ml, found)
    texture = head.texture.at(anatomy.positions)
    flow = perfusion.state(anatomy, found, old, texture, perfusion.Circulation.draw(rng, side))
    core = np.max([one.core for one in found], axis=0)
    still = tomography.still(anatomy, core, old, texture, hours=float(rng.uniform(1.0, 9.0)))
    drawn = _reference(np.any([one.drawn for one in found], axis=0), grid.voxel_ml)
    own = slice(0, count) if not slab else slice(count, 2 * count)
    return _Scene(
        grid=grid.cropped((own, slice(0, _BOX[0]), slice(0, _BOX[1]))),
        inside=anatomy.inside[own],
        flow=perfusion.State(flow.cbf[own], flow.cbv[own], flow.delay_s[own]),
        still_hu=still[own],
        drawn=drawn[own],
        frames=int(rng.integers(43, 65)),
        arrival_s=int(rng.integers(6, 10)),
    )


def _grid(rng: np.random.Generator, slices: int, slice_mm: float) -> Sampling:
    pixel_mm = float(np.clip(rng.normal(0.98, 0.02), 0.92, 1.04))
    centre = (float(rng.normal(0, 2)), float(rng.normal(0, 2)), float(rng.normal(14, 4)))
    tilt = tuple(rng.normal(0.0, (6.0, 2.0, 4.0)))
    return centred((slices, *_BOX), (slice_mm, pixel_mm, pixel_mm), centre_mm=centre, degrees=tilt)


def _lesions(
    rng: np.random.Generator, anatomy: Anatomy, voxel_ml: float, side: int, *, both_slabs: bool
) -> list[lesions.Lesion]:
    """One lesion, and at times smaller ones, with their penumbra.

    A scanner is aimed at the lesion: where two slabs are taken, the lesion lies about their common face.
    """
    volume = lesions.draw_volume_ml(rng, median=18.0, spread=1.45, low=5.0 if both_slabs else 1.0, high=260.0)
    penumbra = float(5.0 + 0.9 * volume**0.85 * rng.lognormal(0.0, 0.6))
    slices = anatomy.grey.shape[0]
    aim = slice(slices // 2 - 1, slices // 2 + 1) if both_slabs else slice(slices // 8, slices - slices // 8)

    def grow(volume_ml: float, penumbra_ml: float, kind: str, aim: slice) -> lesions.Lesion | None:
        return lesions.grow(
            rng,
            anatomy,
            voxel_ml,
            volume_ml=volume_ml,
            penumbra_ml=penumbra_ml,
            kind=kind,
            side=side,
            aim=aim,
            drift=_DRIFT,
        )

    kind = lesions.draw_kind(rng, volume)
    found = [grow(volume, penumbra, kind, aim) or grow(volume, penumbra, "branch", aim)]
    for _ in range(int(rng.choice(4, p=(0.44, 0.33, 0.16, 0.07)))):
        small = float(np.clip(volume * rng.uniform(0.03, 0.3), 0.4, 15.0))
        found.append(grow(small, 0.5 * small, "branch", slice(None)))
    return [one for one in found if one is not None]


def _old_infarct(
    rng: np.random.Generator, anatomy: Anatomy, voxel_ml: float, found: list[lesions.Lesion]
) -> np.ndarray:
    """Membership of tissue lost long ago, beside the new lesions."""
    none = np.zeros_like(anatomy.grey)
    if rng.random() > 0.35:
        return none
    volume = lesions.draw_volume_ml(rng, median=6.0, spread=0.9, low=0.5, high=50.0)
    kind = str(rng.choice(("branch", "lacune", "border_zone")))
    old = lesions.grow(
        rng, anatomy, voxel_ml, volume_ml=volume, penumbra_ml=1.0, kind=kind, side=int(rng.choice((-1, 1)))
    )
    if old is None:
        return none
    fresh = np.max([np.maximum(one.core, one.drawn) for one in found], axis=0)
    return old.core * (1 - fresh)


def _reference(drawn: np.ndarray, voxel_ml: float) -> np.ndarray:
    """The mask as a person would leave it: no crumbs, and no more than five lesions."""
    labels, _ = ndimage.label(drawn, np.ones((3, 3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
    volumes = np.bincount(labels.reshape(-1))[1:] * voxel_ml
    kept = 1 + np.argsort(-volumes, kind="stable")[:_LARGEST_COUNT]
    kept = [label for rank, label in enumerate(kept) if rank == 0 or volumes[label - 1] >= _SMALLEST_ML]
    return np.isin(labels, kept)


def _shown(ct: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Where the software shows its maps: in the brain, but for what the CT says is fluid or bone."""
    smooth = ndimage.gaussian_filter(ct, (0, 1.5, 1.5), truncate=2.5)
    return inside & (smooth > 15.0) & (smooth < 60.0)


def _on_canvas(image: np.ndarray, grid: Sampling, background: float) -> tuple[np.ndarray, np.ndarray]:
    """Puts the box into the full field of view."""
    top, left = (_PLANE[0] - _BOX[0]) // 2, (_PLANE[1] - _BOX[1]) // 2
    canvas = np.full((*image.shape[:-2], *_PLANE), background, image.dtype)
    canvas[..., top : top + _BOX[0], left : left + _BOX[1]] = image
    full = grid.cropped((slice(0, grid.shape[0]), slice(-top, _PLANE[0] - top), slice(-left, _PLANE[1] - left)))
    return canvas, full.affine
