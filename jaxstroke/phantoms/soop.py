"""Studies as SOOP lies on disk: a BIDS folder of TRACE and ADC with acute and chronic lesions apart, T1w and FLAIR.

Kept quirks: images are 4D with one volume, ADC was written on another matrix than TRACE, and masks lie under
derivatives in TRACE's space.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jaxstroke.phantoms import diffusion, magnetic, nifti_files
from jaxstroke.phantoms.fields import Sampling, centred
from jaxstroke.phantoms.isles2022 import flair_of

_SHAPE = (28, 128, 108)
_CUT = 4  # rows and columns that ADC's matrix has less on each side
_T1 = {"grey": 0.68, "white": 1.0, "fluid": 0.22}


def identity(index: int) -> tuple[str, str]:
    name = f"sub-{index + 1}"
    return name, name


def write_study(folder: Path, seed: int, index: int, *, with_ctp: bool) -> None:
    del with_ctp  # refused before: there is no CT in this layout
    name, _ = identity(index)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    grid = _grid(rng)
    patient = magnetic.draw(rng, grid, with_stroke=True, median_ml=10.0, spread=1.6)
    anatomy = patient.anatomy
    tissue = diffusion.contrast(anatomy, patient.acute, patient.halo, patient.old, patient.stage)
    noise = float(rng.uniform(0.015, 0.035))
    dwi, adc = diffusion.scan(rng, anatomy, patient.head, tissue, noise=noise, outside=None)
    inside, gain = anatomy.inside, float(rng.uniform(300.0, 900.0))
    trace = np.where(inside, gain * dwi, 0).astype(np.float32)
    own = grid.cropped((slice(0, _SHAPE[0]), slice(_CUT, _SHAPE[1] - _CUT), slice(_CUT, _SHAPE[2] - _CUT)))
    adc = np.where(inside, 1000.0 * adc, 0).astype(np.float32)[:, _CUT:-_CUT, _CUT:-_CUT]
    subject = folder / name
    nifti_files.write(subject / "dwi" / f"{name}_rec-TRACE_dwi.nii.gz", trace[None], grid.affine)
    nifti_files.write(subject / "dwi" / f"{name}_rec-ADC_dwi.nii.gz", adc[None], own.affine)
    flair, affine = flair_of(rng, patient)
    nifti_files.write(subject / "anat" / f"{name}_FLAIR.nii.gz", flair.astype(np.float32), affine)
    t1w = _T1["grey"] * anatomy.grey + _T1["white"] * anatomy.white
    t1w += _T1["fluid"] * (anatomy.ventricle + anatomy.sulcal_fluid)
    t1w = np.where(inside, 200.0 * t1w, 0)
    nifti_files.write(subject / "anat" / f"{name}_T1w.nii.gz", t1w.astype(np.float32), grid.affine)
    drawn = inside & (anatomy.tissue > 0.2)
    acute, chronic = (patient.acute > 0.5) & drawn, (patient.old > 0.5) & drawn
    masks = folder / "derivatives" / "lesion_masks" / name / "dwi"
    for word, mask in (("lesion", acute | chronic), ("lesionAcute", acute), ("lesionChronic", chronic)):
        path = masks / f"{name}_space-TRACE_desc-{word}_mask.nii.gz"
        nifti_files.write(path, mask.astype(np.uint8), grid.affine)


def finish(folder: Path, seed: int, cases: int) -> None:
    """Writes what a BIDS folder has at its root."""
    del seed
    description = {"Name": "phantom", "BIDSVersion": "1.8.0", "License": "CC0"}
    (folder / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    lines = ["participant_id", *(identity(index)[0] for index in range(cases))]
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _grid(rng: np.random.Generator) -> Sampling:
    tilt, centre = tuple(rng.normal((-4.0, 0.0, 0.0), (5.0, 2.0, 2.0))), tuple(rng.normal(0.0, 2.0, 3))
    return centred(_SHAPE, (5.0, 1.7, 1.7), centre_mm=centre, degrees=tilt, to_left=True)
