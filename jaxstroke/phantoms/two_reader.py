"""ADC and DWI with two readers' outlines on each, as a cross-domain study of one hospital describes its data.

That data set is not public; this plain layout is the phantom's own:

    studies.csv                    study, patient, group (control or stroke), split (train or test)
    study_001/adc.nii.gz           int16, 1e-6 mm2/s, not skull-stripped
    study_001/dwi.nii.gz           int16, the scanner's units
    study_001/adc_r1.nii.gz        uint8, what reader 1 drew on ADC; dwi_r1 likewise
    study_001/adc_r2.nii.gz        test studies only, as are dwi_r2

Of 82 studies 7 are controls without a lesion, and 31 are for testing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxstroke.phantoms import diffusion, magnetic, nifti_files, readers
from jaxstroke.phantoms.fields import Sampling, centred

_STUDIES, _CONTROLS, _TESTS = 82, 7, 31
_PLANE = 256
_SOFT_SIGNAL, _SKULL_SIGNAL = 0.45, 0.06  # b = 0, relative to grey matter


def identity(index: int) -> tuple[str, str]:
    return f"study_{index + 1:03d}", f"patient_{index + 1:03d}"


def is_control(index: int) -> bool:
    """Spread evenly: every 82 studies in a row hold 7 controls, the first of them early."""
    return _counted(index, _CONTROLS, phase=6)


def is_test(index: int) -> bool:
    return _counted(index, _TESTS, phase=0)


def _counted(index: int, share: int, phase: int) -> bool:
    return (index + phase + 1) * share // _STUDIES > (index + phase) * share // _STUDIES


def write_study(folder: Path, seed: int, index: int, *, with_ctp: bool) -> None:
    del with_ctp  # refused before: there is no CT in this layout
    for name, (array, affine) in make_study(seed, index).items():
        nifti_files.write(folder / identity(index)[0] / f"{name}.nii.gz", array, affine)


def finish(folder: Path, seed: int, cases: int) -> None:
    """Writes studies.csv."""
    del seed
    lines = ["study,patient,group,split"]
    for index in range(cases):
        group, split = "control" if is_control(index) else "stroke", "test" if is_test(index) else "train"
        lines.append(",".join([*identity(index), group, split]))
    (folder / "studies.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_study(seed: int, index: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The arrays of one study by file name, (D, H, W), with their affine."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    full = _grid(rng)
    box = _head_box(full)
    patient = magnetic.draw(rng, full.cropped(box), with_stroke=not is_control(index), median_ml=9.0, spread=1.4)
    anatomy = patient.anatomy
    tissue = diffusion.contrast(anatomy, patient.acute, patient.halo, patient.old, patient.stage)
    noise = float(rng.uniform(0.015, 0.035))
    outside = _SOFT_SIGNAL * anatomy.soft + _SKULL_SIGNAL * anatomy.skull
    dwi, adc = diffusion.scan(rng, anatomy, patient.head, tissue, noise=noise, outside=outside)
    head = anatomy.tissue + anatomy.ventricle + anatomy.sulcal_fluid + anatomy.soft > 0.5
    drawable = anatomy.inside & (anatomy.ventricle < 0.5)
    truth = (patient.acute > 0.5) & drawable
    masks = readers.draw(rng, truth, drawable, anatomy.positions, full.spacing_mm)
    gain = float(rng.uniform(900.0, 1500.0))
    signal = np.rint(gain * rng.rayleigh(noise, full.shape).astype(np.float32)).astype(np.int16)  # air
    signal[box] = np.clip(np.rint(gain * dwi), 0, 32767)
    study = {
        "dwi": (signal, full.affine),
        "adc": _whole(np.where(head, np.clip(np.rint(1000.0 * adc), 0, 4095), 0).astype(np.int16), full, box),
    }
    for (modality, reader), mask in masks.items():
        if reader == "r1" or is_test(index):
            study[f"{modality}_{reader}"] = _whole(mask.astype(np.uint8), full, box)
    return study


def _grid(rng: np.random.Generator) -> Sampling:
    within, through = float(rng.uniform(0.83, 0.94)), float(rng.uniform(5.5, 7.2))
    slices = int(np.clip(round(145.0 / through), 20, 26))
    tilt, centre = tuple(rng.normal((-4.0, 0.0, 0.0), (5.0, 2.0, 2.0))), tuple(rng.normal(0.0, 2.0, 3))
    return centred((slices, _PLANE, _PLANE), (through, within, within), centre_mm=centre, degrees=tilt, to_left=True)


def _head_box(grid: Sampling) -> tuple[slice, slice, slice]:
    """Trims columns that lie beyond any head; the rows are all needed."""
    half = min(int(90.0 / grid.spacing_mm[2]) + 1, _PLANE // 2)
    return slice(0, grid.shape[0]), slice(0, _PLANE), slice(_PLANE // 2 - half, _PLANE // 2 + half)


def _whole(values: np.ndarray, grid: Sampling, box: tuple[slice, slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    canvas = np.zeros(grid.shape, values.dtype)
    canvas[box] = values
    return canvas, grid.affine
