"""Studies as the ISLES 2022 release lies on disk: skull-stripped DWI and ADC on one grid, FLAIR on another.

Kept quirks: oblique affines, float64 images and uint16 masks, a background of exactly 0, a few negative voxels, ADC
in one of three units, FLAIR neither on the diffusion grid nor registered to it, ages such as "088Y" or n/a.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jaxstroke.phantoms import diffusion, magnetic, nifti_files
from jaxstroke.phantoms.fields import Positions, Sampling, centred

_EMPTY_ODDS = 3 / 250
# (rows and columns, fewest and most slices, (through plane, in plane) mm, odds)
_GRIDS = ((112, (70, 76), (2.0, 2.0), 0.8), (128, (25, 29), (5.0, 1.8), 0.1), (192, (25, 28), (5.0, 1.2), 0.1))
_ADC_UNITS = ((1.0, 0.4), (1e-3, 0.4), (1e3, 0.2))  # file value for 1e-3 mm2/s, and odds
_HEAD_MM = (196.0, 160.0)  # front to back and side to side: what of the grid can hold brain
_FLAIR = {"grey": 1.0, "white": 0.82, "fluid": 0.18, "disease": 0.75, "acute": 0.35, "old": 0.6}


def identity(index: int) -> tuple[str, str]:
    name = f"sub-strokecase{index + 1:04d}"
    return name, name


def write_study(folder: Path, seed: int, index: int, *, with_ctp: bool) -> None:
    del with_ctp  # refused before: there is no CT in this layout
    name, _ = identity(index)
    study = make_study(seed, index)
    session = folder / name / "ses-0001"
    stem = f"{name}_ses-0001"
    nifti_files.write(session / "dwi" / f"{stem}_dwi.nii.gz", *study["DWI"])
    nifti_files.write(session / "dwi" / f"{stem}_adc.nii.gz", *study["ADC"])
    nifti_files.write(session / "anat" / f"{stem}_FLAIR.nii.gz", *study["FLAIR"])
    nifti_files.write(folder / "derivatives" / name / "ses-0001" / f"{stem}_msk.nii.gz", *study["lesion"])
    if np.random.default_rng([seed, index, 3]).random() < 0.5:
        sidecar = {"MagneticFieldStrength": 3, "Manufacturer": "phantom", "Modality": "MR"}
        (session / "dwi" / f"{stem}_dwi.json").write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")


def finish(folder: Path, seed: int, cases: int) -> None:
    """Writes participants.tsv."""
    lines = ["participant_id\tage\tsex"]
    for index in range(cases):
        rng = np.random.default_rng([seed, index, 4])
        age = f"{int(np.clip(rng.normal(70, 13), 18, 99)):03d}Y"
        sex = str(rng.choice(("M", "F")))
        lines.append("\t".join([identity(index)[0], *(word if rng.random() < 0.6 else "n/a" for word in (age, sex))]))
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_study(seed: int, index: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The arrays of one study by word, (D, H, W), with their affine."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    full = _diffusion_grid(rng)
    box = _head_box(full)
    with_stroke = rng.random() >= _EMPTY_ODDS
    patient = magnetic.draw(rng, full.cropped(box), with_stroke=with_stroke, median_ml=14.0, spread=1.8)
    anatomy = patient.anatomy
    tissue = diffusion.contrast(anatomy, patient.acute, patient.halo, patient.old, patient.stage)
    noise = float(rng.uniform(0.015, 0.035))
    dwi, adc = diffusion.scan(rng, anatomy, patient.head, tissue, noise=noise, outside=None)
    brain = anatomy.inside
    gain = float(rng.uniform(450.0, 750.0))
    units = float(rng.choice([unit for unit, _ in _ADC_UNITS], p=[odds for _, odds in _ADC_UNITS]))
    mask = (patient.acute > 0.5) & brain & (anatomy.tissue > 0.2)

    def as_scanned(values: np.ndarray, kind: type) -> tuple[np.ndarray, np.ndarray]:
        canvas = np.zeros(full.shape, kind)
        canvas[box] = values
        return canvas, full.affine

    return {
        "DWI": as_scanned(np.where(brain, gain * dwi, 0.0), np.float64),
        "ADC": as_scanned(np.where(brain, units * adc, 0.0), np.float64),
        "FLAIR": flair_of(rng, patient),
        "lesion": as_scanned(mask, np.uint16),
    }


def _diffusion_grid(rng: np.random.Generator) -> Sampling:
    side, (fewest, most), (through, within), _ = _GRIDS[int(rng.choice(len(_GRIDS), p=[grid[3] for grid in _GRIDS]))]
    slices = int(rng.integers(fewest, most + 1))
    tilt = tuple(rng.normal((-6.0, 0.0, 0.0), (7.0, 3.0, 3.0)))
    centre = tuple(rng.normal((0.0, 0.0, 0.0), 3.0))
    return centred((slices, side, side), (through, within, within), centre_mm=centre, degrees=tilt, to_left=True)


def _head_box(grid: Sampling) -> tuple[slice, slice, slice]:
    middles = []
    for size, spacing, reach in zip(grid.shape[1:], grid.spacing_mm[1:], _HEAD_MM, strict=True):
        half = min(int(reach / spacing / 2) + 1, size // 2)
        middles.append(slice(size // 2 - half, size // 2 + half))
    return slice(0, grid.shape[0]), middles[0], middles[1]


def flair_of(rng: np.random.Generator, patient: magnetic.Patient) -> tuple[np.ndarray, np.ndarray]:
    """FLAIR of the same head, moved by a few mm since the diffusion images, on a grid of its own."""
    tilt = tuple(rng.normal((-3.0, 0.0, 0.0), (5.0, 2.0, 2.0)))
    full = centred((int(rng.integers(20, 25)), 224, 224), (6.5, 1.0, 1.0), degrees=tilt, to_left=True)
    box = _head_box(full)
    moved = rng.normal(0.0, 1.5, 3).astype(np.float32)
    positions: Positions = tuple(axis + by for axis, by in zip(full.cropped(box).positions(), moved, strict=True))  # pyright: ignore
    anatomy = patient.head.at(positions)
    acute, old = (patient.carried_to(one, positions) for one in (patient.acute, patient.old))
    visible = float(rng.uniform(0.1, 1.0))  # in the first hours the infarct does not show
    image = _FLAIR["grey"] * anatomy.grey + _FLAIR["white"] * anatomy.white
    image += _FLAIR["fluid"] * (anatomy.ventricle + anatomy.sulcal_fluid)
    image += _FLAIR["disease"] * anatomy.white_matter_disease
    image += anatomy.tissue * (_FLAIR["acute"] * visible * acute + _FLAIR["old"] * old * (1 - patient.stage.old_loss))
    image -= 0.7 * image * old * patient.stage.old_loss
    image += np.float32(rng.uniform(0.03, 0.07)) * rng.standard_normal(image.shape, dtype=np.float32)
    canvas = np.zeros(full.shape, np.float64)
    canvas[box] = np.where(anatomy.inside, float(rng.uniform(200.0, 500.0)) * image, 0.0)
    return canvas, full.affine
