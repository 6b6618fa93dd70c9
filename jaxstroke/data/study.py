"""One study in memory: its images and masks as (D, H, W) arrays on one grid, and the way back to the files' order.

Whatever the order in which a file stores its voxels, a study's arrays are turned (never resampled) so that slices D
go from foot to head, rows H from front to back and columns W from the patient's right to the left, as axial slices
are looked at.  `Grid.to_file` turns them back exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import Layout, find_layout
from jaxstroke.errors import UserError
from jaxstroke.files import nifti

_AFFINE_TOLERANCE = 1e-3  # mm; between files of one study


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a study's files lie.

    Attributes:
      header: of the first image; a prediction that is written like it lies over that image.
      orientation: (3, 2): for each axis of the file, the axis of (D, H, W) that it becomes and its direction, 1 or -1.
    """

    header: nifti.Header
    orientation: np.ndarray

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel indices in the file's order to mm, as the file has it."""
        return self.header.affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along D, H, W."""
        spacing = [0.0, 0.0, 0.0]
        for size, (axis, _) in zip(self.header.spacing_mm, self.orientation, strict=True):
            spacing[int(axis)] = size
        return spacing[0], spacing[1], spacing[2]

    def from_file(self, array: np.ndarray) -> np.ndarray:
        """(X, Y, Z[, T]) in the file's order to (D, H, W[, T])."""
        return np.ascontiguousarray(nib.orientations.apply_orientation(array, self.orientation))

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """(D, H, W) to (X, Y, Z) in the file's order: the exact inverse of `from_file`."""
        order = np.argsort(self.orientation[:, 0])
        back = np.stack([order, self.orientation[order, 1]], axis=1)
        return np.ascontiguousarray(nib.orientations.apply_orientation(array, back))


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Attributes:
    case: whose and which.
    images: by modality, float32 (D, H, W) in the layout's units; CTP (T, D, H, W).
    masks: by target, uint8 (D, H, W), 0 or 1.
    spacing_mm: voxel size along D, H, W.
    grid: the way back to the files.
    """

    case: Case
    images: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray]
    spacing_mm: tuple[float, float, float]
    grid: Grid


def read_study(case: Case, images: Sequence[str], masks: Sequence[str] = ()) -> Study:
    """Reads the wanted images and masks of a study; what is missing or does not fit is a `UserError`."""
    if not images:
        raise ValueError("read_study needs at least one image")
    layout = find_layout(case.layout)
    first, grid = "", None
    arrays: dict[str, np.ndarray] = {}
    for word in images:
        volume = nifti.read_volume(_path(case, case.images, word, "image"))
        if grid is None:
            first, grid = word, _grid(volume.header, layout)
        _check_same_grid(case, grid, volume.header, first, word, layout)
        array = grid.from_file(volume.array)
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0)) if array.ndim == 4 else array
        if (array.ndim == 4) != (word == "CTP"):
            kind = "a series (X, Y, Z, T)" if word == "CTP" else "one volume (X, Y, Z)"
            raise UserError(f"{volume.header.path}: its shape is {volume.header.shape}; {word} must be {kind}")
        calibrate = layout.calibrate.get(word)
        arrays[word] = calibrate(array) if calibrate else array
    assert grid is not None
    drawn = {}
    for word in masks:
        volume = nifti.read_volume(_path(case, case.masks, word, "mask"))
        _check_same_grid(case, grid, volume.header, first, word, layout)
        drawn[word] = _binary(grid.from_file(volume.array), volume.header.path)
    return Study(case, arrays, drawn, grid.spacing_mm, grid)


def _path(case: Case, files: Mapping[str, Path], word: str, kind: str) -> Path:
    if word not in files:
        has = ", ".join(sorted(files)) or "none"
        raise UserError(f"study {case.study}: it has no {kind} {word}; its {kind}s are: {has}")
    return files[word]


def _grid(header: nifti.Header, layout: Layout) -> Grid:
    if layout.affine_from_zooms:
        return Grid(header, np.array([[2, 1], [1, 1], [0, 1]]))  # as stored: (X, Y, Z) to (Z, Y, X)
    problem = header.disagreement()
    if problem:
        raise UserError(f"{header.path}: {problem}; set the header right, since nobody can tell which is true")
    stored = nib.orientations.io_orientation(header.affine)
    wanted = nib.orientations.axcodes2ornt(("S", "P", "L"))
    return Grid(header, nib.orientations.ornt_transform(stored, wanted).astype(int))


def _check_same_grid(case: Case, grid: Grid, header: nifti.Header, first: str, word: str, layout: Layout) -> None:
    """Two files of a study must have one shape and one affine (only voxel sizes where affines mean nothing)."""
    shape, other = grid.header.shape[:3], header.shape[:3]
    if layout.affine_from_zooms:
        same = np.allclose(grid.header.spacing_mm, header.spacing_mm, rtol=0, atol=_AFFINE_TOLERANCE)
    else:
        same = np.allclose(grid.affine, header.affine, rtol=0, atol=_AFFINE_TOLERANCE)
    if shape != other or not same:
        what = f"shapes {other} and {shape}" if shape != other else "affines differ"
        raise UserError(
            f"{header.path}: {word} of study {case.study} does not lie on the grid of {first} ({what}); "
            f"register it to {first} first, or leave {word} out"
        )


def _binary(values: np.ndarray, path: Path) -> np.ndarray:
    """Any positive label is lesion; a mask with fractions or negative values is not a mask."""
    if values.min() < 0 or not np.array_equal(values, np.round(values)):
        raise UserError(f"{path}: it is not a mask of whole labels; threshold it first")
    return (values > 0).astype(np.uint8)
