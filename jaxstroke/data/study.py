"""One study in memory: its images and masks as (D, H, W) arrays on one grid, and the way back to the files' order.

Whatever the order in which a file stores its voxels, a study's arrays are turned (never resampled) so that slices D
go from foot to head, rows H from front to back and columns W from the patient's right to the left, as axial slices
are looked at.  `Grid.to_file` turns them back exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from jaxstroke import console
from jaxstroke.data.case import Case
from jaxstroke.data.layouts import Layout, find_layout
from jaxstroke.data.regrid import regrid
from jaxstroke.errors import UserError
from jaxstroke.files import nifti

# Between files of one study.
_TOLERANCE_MM = 1e-3
_TOLERANCE_DEGREES = 0.1
_LABEL_TOLERANCE = 1e-4
_ABSURD = 1e9  # no scanner and no unit gives such values


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

    def shape(self, header: nifti.Header) -> tuple[int, int, int]:
        """(D, H, W) of a file whose voxels are stored as this grid's are."""
        shape = [0, 0, 0]
        for size, (axis, _) in zip(header.shape[:3], self.orientation, strict=True):
            shape[int(axis)] = size
        return shape[0], shape[1], shape[2]

    @property
    def voxels_to_mm(self) -> np.ndarray:
        """(4, 4): where voxel (d, h, w) lies."""
        return self.affine @ nib.orientations.inv_ornt_aff(self.orientation, self.header.shape[:3])

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """(D, H, W) to (X, Y, Z) in the file's order."""
        return np.ascontiguousarray(self.in_file_order(array))

    def in_file_order(self, array: np.ndarray) -> np.ndarray:
        """The same as a view: what is written to it comes to lie right in (D, H, W[, T])."""
        order = np.argsort(self.orientation[:, 0])
        back = np.stack([order, self.orientation[order, 1]], axis=1)
        return nib.orientations.apply_orientation(array, back)


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Attributes:
    case: whose and which.
    images: by modality, float32 (D, H, W) in the layout's units; CTP (T, D, H, W).
    masks: by target, uint8 (D, H, W), 0 or 1.
    spacing_mm: voxel size along D, H, W.
    grid: the way back to the files.
    warnings: what is odd about its values, a line each that names study and file.
    missing: images that were asked for and that it does not have; a network sees 0 in their place.
    prepared: what its preparation did, a line each.
    """

    case: Case
    images: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray]
    spacing_mm: tuple[float, float, float]
    grid: Grid
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()


def without(missing: Sequence[str]) -> str:
    """What every output says of images that the network did not see.

    >>> without(["ADC", "FLAIR"])
    ' [without ADC, FLAIR]'
    """
    return f" [without {', '.join(missing)}]" if missing else ""


def read_study(case: Case, images: Sequence[str], masks: Sequence[str] = (), *, allow_missing: bool = False) -> Study:
    """Reads images and masks of a study; what is missing or does not fit is a `UserError`.

    With `allow_missing` an image that the study does not have is among its `missing`, if there is any other.
    All headers are read and held against each other before any voxel is, and voxels go straight to their place.
    """
    if not images:
        raise ValueError("read_study needs at least one image")
    if case.fault:
        raise UserError(case.fault)
    layout = find_layout(case.layout)
    missing = tuple(word for word in images if word not in case.images) if allow_missing else ()
    images = [word for word in images if word not in missing]
    if not images:
        raise case.without("image", ", ".join(missing), case.images)
    image_headers = {word: nifti.read_header(case.image(word)) for word in images}
    mask_headers = {word: nifti.read_header(case.mask(word)) for word in masks}
    grid = grid_of(image_headers[images[0]], layout)
    for word, header in (*image_headers.items(), *mask_headers.items()):
        check_dimensions(header, word, is_mask=word in mask_headers)
        if word not in layout.same_scan:
            _check_same_grid(case, grid, header, images[0], word, layout)
    arrays, odd = {}, [f"study {case.study}: it has no image {word}; the network sees 0 there" for word in missing]
    for word, header in image_headers.items():
        array = _read_onto(header, grid, layout) if word in layout.same_scan else read_turned(header, grid)
        odd += [f"study {case.study}: {word} {what} ({header.path})" for what in oddities(array)]
        calibrate = layout.calibrate.get(word)
        arrays[word] = calibrate(array) if calibrate else array
    drawn = {word: binary(read_turned(header, grid), header.path) for word, header in mask_headers.items()}
    for line in odd:
        console.warn(line)
    return Study(case, arrays, drawn, grid.spacing_mm, grid, tuple(odd), missing)


def read_alone(case: Case, word: str) -> tuple[np.ndarray, np.ndarray]:
    """One image on a grid of its own: (D, H, W) in the layout's units, and where voxel (d, h, w) lies."""
    layout = find_layout(case.layout)
    header = nifti.read_header(case.image(word))
    check_dimensions(header, word, is_mask=False)
    grid = grid_of(header, layout)
    array, calibrate = read_turned(header, grid), layout.calibrate.get(word)
    return calibrate(array) if calibrate else array, grid.voxels_to_mm


def read_turned(header: nifti.Header, grid: Grid) -> np.ndarray:
    """The voxels of a file as (D, H, W), a series as (T, D, H, W); file values, as float32."""
    array = np.empty((*header.shape[3:], *grid.shape(header)), np.float32)
    nifti.fill(grid.in_file_order(np.moveaxis(array, 0, -1) if array.ndim == 4 else array), header)
    return array


def _read_onto(header: nifti.Header, grid: Grid, layout: Layout) -> np.ndarray:
    own = grid_of(header, layout)
    return regrid(read_turned(header, own), own.voxels_to_mm, grid.shape(grid.header), grid.voxels_to_mm)


def oddities(array: np.ndarray) -> Iterator[str]:
    """What values can be read but can hardly be meant."""
    low, high = float(array.min()), float(array.max())
    if low == high == 0:
        yield "is 0 everywhere"
    if max(-low, high) > _ABSURD:
        yield f"has values from {low:.3g} to {high:.3g}"


def check_dimensions(header: nifti.Header, word: str, *, is_mask: bool) -> None:
    series = word == "CTP" and not is_mask
    if (len(header.shape) == 4) != series:
        kind = "a series (X, Y, Z, T)" if series else "one volume (X, Y, Z)"
        raise nifti.WrongDimensions(f"{header.path}: its shape is {header.shape}; {word} must be {kind}")


def grid_of(header: nifti.Header, layout: Layout) -> Grid:
    if layout.affine_from_zooms:
        return Grid(header, np.array([[2, 1], [1, 1], [0, 1]]))  # as stored: (X, Y, Z) to (Z, Y, X)
    problem = header.disagreement()
    if problem:
        raise UserError(f"{header.path}: {problem}; set the header right, since nobody can tell which is true")
    stored = nib.orientations.io_orientation(header.affine)
    axial = nib.orientations.axcodes2ornt(("S", "P", "L"))
    return Grid(header, nib.orientations.ornt_transform(stored, axial).astype(int))


def difference(one: nifti.Header, other: nifti.Header, layout: Layout) -> str | None:
    """How the grids of two files differ, or None. Where affines mean nothing, by voxel sizes alone."""
    if one.shape[:3] != other.shape[:3]:
        return f"shapes {other.shape[:3]} and {one.shape[:3]}"
    sizes = np.abs(np.subtract(one.spacing_mm, other.spacing_mm)).max()
    if sizes > _TOLERANCE_MM:
        return f"voxel sizes differ by {sizes:.3g} mm"
    if layout.affine_from_zooms:
        return None
    apart = np.abs(one.affine[:3, 3] - other.affine[:3, 3]).max()
    if apart > _TOLERANCE_MM:
        return f"affines differ: first voxels lie {apart:.3g} mm apart"
    axes = [header.affine[:3, :3] / np.linalg.norm(header.affine[:3, :3], axis=0) for header in (one, other)]
    chords = np.linalg.norm(axes[0] - axes[1], axis=0)
    degrees = float(np.degrees(2 * np.arcsin(np.clip(chords / 2, 0, 1))).max())
    return f"affines differ: axes are turned by {degrees:.3g} degrees" if degrees > _TOLERANCE_DEGREES else None


def _check_same_grid(case: Case, grid: Grid, header: nifti.Header, first: str, word: str, layout: Layout) -> None:
    what = difference(grid.header, header, layout)
    if what:
        raise UserError(
            f"{header.path}: {word} of study {case.study} does not lie on the grid of {first} ({what}); "
            f"register it to {first} first, or leave {word} out"
        )


def binary(values: np.ndarray, path: Path) -> np.ndarray:
    """Any positive label is lesion; a mask with fractions or negative values is not a mask.

    Label n stored with the slope 1 / n comes back as a little less or more than 1: what is near a whole number is it.
    """
    labels = np.rint(values)
    if labels.min() < 0 or np.abs(values - labels).max() > _LABEL_TOLERANCE:
        raise UserError(f"{path}: it is not a mask of whole labels; threshold it first")
    return (labels > 0).astype(np.uint8)
