"""Small studies on disk for the tests of the data room, made without the program's own writer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from jaxstroke.data.layouts import isles2022
from jaxstroke.files import nifti


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None, **header: object) -> Path:
    """Writes an array in the file's own order; `header` sets NIfTI fields by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine, dtype=array.dtype.type)
    image.header.set_xyzt_units("mm")
    for field, value in header.items():
        image.header[field] = value
    nib.save(image, path)
    return path


def voxels(path: Path, **bound: int) -> np.ndarray:
    """A file's values as the program reads them, in the file's own order."""
    header = nifti.read_header(path, **bound)
    array = np.empty(header.shape, np.float32, order="F")
    nifti.fill(array, header)
    return array


def head(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """(D, H, W) float32: noise about 100 in an ellipse, 0 outside."""
    depth, height, width = shape
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2 + 0.5) / (0.4 * height)) ** 2 + ((x - width / 2 + 0.5) / (0.35 * width)) ** 2 < 1
    values = np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32)
    return values * inside


def lesion(shape: tuple[int, int, int], slices: Mapping[int, tuple[int, int]], side: int = 3) -> np.ndarray:
    """(D, H, W) uint8: a square of `side` pixels at the given (row, column) of each slice."""
    mask = np.zeros(shape, np.uint8)
    for index, (row, column) in slices.items():
        mask[index, row : row + side, column : column + side] = 1
    return mask


def isles2022_study(
    root: Path, number: int, mask: np.ndarray, spacing_mm: float = 2.0,
    images: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:  # fmt: skip
    """One subject of the release: DWI, ADC (1e-3 mm2/s) and the mask, on an L-A-S grid; arrays are (D, H, W)."""
    name = f"sub-strokecase{number:04}"
    session = root / name / "ses-0001"
    affine = np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0])
    dwi, adc = images or (head(mask.shape, number), head(mask.shape, number + 1000) / 100)
    for word, array in (("dwi", dwi), ("adc", adc)):
        save(session / "dwi" / f"{name}_ses-0001_{word}.nii.gz", _las(array), affine)
    derived = root / "derivatives" / name / "ses-0001"
    save(derived / f"{name}_ses-0001_msk.nii.gz", _las(mask).astype(np.uint16), affine)


def _las(array: np.ndarray) -> np.ndarray:
    """(D, H, W), rows front to back and columns right to left, to (X, Y, Z) of a file in L-A-S order."""
    return array.transpose(2, 1, 0)[:, ::-1]


def isles2022_root(root: Path, masks: list[np.ndarray], patients: Mapping[str, str] | None = None) -> list:
    """A data set of the given masks; returns its cases."""
    for number, mask in enumerate(masks, start=1):
        isles2022_study(root, number, mask)
    if patients:
        (root / "phantom.json").write_text(json.dumps({"patients": dict(patients)}))
    return isles2022.LAYOUT.find(root)
