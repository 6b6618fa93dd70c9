"""Studies as ATLAS R3.0 lies on disk: a T1-weighted image and what is left of a stroke, from many sites.

Kept quirks: the four orientations, T1w as int16 with a slope and an intercept, masks in float32 or uint16, a table
beside each image.  Voxels are 2 mm, the release's mostly 1 mm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxstroke.phantoms import magnetic, nifti_files
from jaxstroke.phantoms.fields import Sampling, centred

_SITES = 5
_ORIENTATIONS = ("RAS", "LAS", "PSR", "PSL", "RAS", "LAS", "RAS", "LAS")  # by study, so that few studies show all
_SHAPE, _SPACING_MM = (80, 108, 88), (2.0, 2.0, 2.0)
_T1 = {"grey": 0.68, "white": 1.0, "fluid": 0.22, "lost": 0.3}


def identity(index: int) -> tuple[str, str]:
    name = f"sub-r{index % _SITES + 1:03d}s{index // _SITES + 1:03d}"
    return name, name


def write_study(folder: Path, seed: int, index: int, *, with_ctp: bool) -> None:
    del with_ctp  # refused before: there is no CT in this layout
    name, _ = identity(index)
    image, lesion, grid = make_study(seed, index)
    rng = np.random.default_rng([seed, index, 26])
    site = f"R{index % _SITES + 1:03d}"
    session = folder / "Training_Raw" / site / name / "ses-1" / "anat"
    stem = f"{name}_ses-1_space-orig"
    orientation = _ORIENTATIONS[index % len(_ORIENTATIONS)]
    slope, intercept = float(rng.uniform(0.01, 0.1)), float(rng.uniform(0.0, 5.0))
    stored = np.where(image > 0, np.rint((image - intercept) / slope), np.rint(-intercept / slope)).astype(np.int16)
    # As 0 must be what is stored for nothing, the intercept is a whole number of steps.
    scale = (slope, float(np.float32(slope) * np.rint(intercept / slope)))
    nifti_files.write(
        session / f"{stem}_desc-brain_T1w.nii.gz", stored, grid.affine, orientation=orientation, scale=scale
    )
    kind = np.float32 if rng.random() < 0.5 else np.uint16
    mask = session / f"{stem}_label-lesion_desc-T1lesion_mask.nii.gz"
    nifti_files.write(mask, lesion.astype(kind), grid.affine, orientation=orientation)
    days = int(rng.integers(2, 3000))
    header = "ATLAS2_DATASET,SESSION_ID,DAYS_POST_STROKE,CHRONICITY,SITE"
    row = f"Training,{name}_ses-1,{days},{int(days > 180)},{site}"
    (session / f"{stem}_metadata.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")


def finish(folder: Path, seed: int, cases: int) -> None:
    """Its tables lie beside each image."""


def make_study(seed: int, index: int) -> tuple[np.ndarray, np.ndarray, Sampling]:
    """T1w and mask, (D, H, W), and their grid."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    grid = centred(_SHAPE, _SPACING_MM, centre_mm=tuple(rng.normal(0.0, 3.0, 3)))
    patient = magnetic.draw(rng, grid, with_stroke=True, median_ml=9.0, spread=1.8)
    anatomy = patient.anatomy
    lost = np.maximum(patient.acute, patient.old)
    image = _T1["grey"] * anatomy.grey + _T1["white"] * anatomy.white
    image += _T1["fluid"] * (anatomy.ventricle + anatomy.sulcal_fluid)
    image -= 0.2 * anatomy.white_matter_disease
    image += (_T1["lost"] - image) * lost * anatomy.tissue
    image += float(rng.uniform(0.02, 0.05)) * rng.standard_normal(image.shape, dtype=np.float32)
    inside = anatomy.inside
    image = np.where(inside, np.maximum(image, 0.02) * float(rng.uniform(60.0, 300.0)), 0.0)
    return image.astype(np.float32), (lost > 0.5) & inside & (anatomy.tissue > 0.2), grid
