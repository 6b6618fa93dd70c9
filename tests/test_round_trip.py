"""A mask to the network's grid and back to the file: every flip and permutation, oblique, odd sizes, one slice."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from jaxstroke.data import prepare
from jaxstroke.data.case import Case
from jaxstroke.data.regrid import regrid
from jaxstroke.data.study import Grid, Study, read_study
from jaxstroke.experiment import Data
from jaxstroke.files import nifti

TURNS = [
    (axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1.0, -1.0), repeat=3)
]
GEOMETRY = ("dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x",
            "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units", "dim_info", "magic")  # fmt: skip
NO_GRID = Grid(None, np.array([[2, 1], [1, 1], [0, 1]]))  # type: ignore[arg-type]
# Millilitres of the ellipsoid that is drawn, and what must be left of it.
LEAST_ML, LEAST_DICE = 1.0, 0.95


def drawn(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """An ellipsoid of more than a millilitre, off the middle, which no flip or swap of axes maps to itself."""
    radii = np.maximum((9.0, 7.5, 6.2), 1.2 * np.array(spacing_mm))
    middle = (np.array(shape) - 1) / 2 + np.minimum((2.3, -1.7, 0.6), (np.array(shape) - 1) / 8)
    place = (np.indices(shape).T - middle) * spacing_mm / radii
    return ((place**2).sum(axis=-1) < 1).T


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * np.logical_and(one, other).sum() / (one.sum() + other.sum())


def there_and_back(
    folder: Path, mask: np.ndarray, affine: np.ndarray, data: Data, kind: type = nib.Nifti1Image
) -> Path:
    """The mask, read beside an image, prepared, restored and written, as `predict` writes what a network says."""
    image = kind(np.full(mask.shape, 100, np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_dim_info(freq=0, phase=1, slice=2)
    nib.save(image, folder / "dwi.nii.gz")
    nib.save(kind(mask.astype(np.uint8), affine), folder / "mask.nii.gz")
    case = Case("s", "p", {"DWI": folder / "dwi.nii.gz"}, {"lesion": folder / "mask.nii.gz"}, data.layout)
    study = read_study(case, ("DWI",), ("lesion",))
    prepared = prepare.prepare(study, data)
    back = prepare.restore(prepared.masks, prepared.inverse)[..., 0] >= 0.5
    nifti.write_volume(folder / "back.nii.gz", study.grid.to_file(back), like=study.grid.header)
    return folder / "back.nii.gz"


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("layout", "depth"), [("isles2022", 9), ("isles2022", 1), ("isles2018", 9)])
def test_every_flip_and_permutation_of_an_oblique_grid(tmp_path: Path, layout: str, depth: int, kind: type) -> None:
    """All 48 ways to store it; ISLES 2018, whose affines mean nothing, always stores slices last."""
    spacing = np.array((1.3, 1.1, 6.0))
    tilt = Rotation.from_euler("xyz", (14, -9, 21), degrees=True).as_matrix()
    mask = drawn((37, 41, depth), spacing)
    assert mask.sum() * spacing.prod() / 1000 > LEAST_ML
    data = Data(layout, (("DWI",),), size=64, spacing_mm=1.1)  # no coarser than the study's own pixels
    turns = TURNS if kind is nib.Nifti1Image else TURNS[::7]
    for axes, signs in turns if layout == "isles2022" else [turn for turn in turns if turn[0][2] == 2]:
        affine = np.eye(4)
        affine[:3, :3] = (tilt @ np.diag(spacing * signs))[:, axes]
        affine[:3, 3] = (-31.5, 20.25, 7.125)
        stored = mask.transpose(axes)
        path = there_and_back(tmp_path, stored, affine, data, kind)
        written, image = nib.load(path), nib.load(tmp_path / "dwi.nii.gz")
        assert dice(written.get_fdata() > 0, stored) >= LEAST_DICE, (axes, signs)
        assert type(written) is kind and written.affine.tobytes() == image.affine.tobytes()
        for field in GEOMETRY:
            np.testing.assert_array_equal(written.header[field], image.header[field], f"{field} {axes} {signs}")


@settings(max_examples=60)
@given(
    sizes=st.tuples(st.integers(1, 12), st.integers(40, 75), st.integers(40, 75)),
    spacing_mm=st.tuples(st.floats(1.0, 10.0), st.floats(0.8, 2.0), st.floats(0.8, 2.0)),
    ratio=st.floats(0.5, 1.15),
    whole_field=st.booleans(),
)
def test_any_size_on_any_grid_that_is_not_coarser(
    sizes: tuple[int, int, int], spacing_mm: tuple[float, float, float], ratio: float, whole_field: bool
) -> None:
    """Up to 1.15 of the study's own pixel, as the published 224 of 256 are; `data.spacing_mm` or the whole field."""
    mask = drawn(sizes, spacing_mm)
    volume = mask.sum() * np.prod(spacing_mm) / 1000
    pixel = min(spacing_mm[1:]) * ratio
    size = int(np.ceil(max(sizes[1:]) / ratio)) if whole_field else 32
    data = Data("isles2022", (("DWI",),), size=size, spacing_mm=None if whole_field else pixel)
    case = Case("s", "p", {}, {}, "isles2022")
    study = Study(case, {"DWI": np.ones(sizes, np.float32)}, {"lesion": mask.astype(np.uint8)}, spacing_mm, NO_GRID)
    prepared = prepare.prepare(study, data)
    back = prepare.restore(prepared.masks, prepared.inverse)[..., 0] >= 0.5
    assert back.shape == sizes
    assert volume < LEAST_ML or dice(back, mask) >= LEAST_DICE


@settings(max_examples=40)
@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), spacing=st.tuples(*[st.floats(0.5, 4)] * 3), flip=st.booleans())
def test_an_image_on_another_grid_is_looked_up_where_it_lies(
    angles: tuple[float, float, float], spacing: tuple[float, float, float], flip: bool
) -> None:
    """What is linear in mm is found exactly at every voxel of any other grid inside its field."""
    slope = np.array((0.7, -1.3, 0.4))
    field = np.diag((2.0, 2.0, 2.0, 1.0))
    field[:3, 3] = -40.0
    values = np.tensordot(slope, np.indices((41, 41, 41)) * 2.0 - 40.0, 1).astype(np.float32)
    onto = np.eye(4)
    onto[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(spacing)
    onto[:, 0] *= -1.0 if flip else 1.0
    onto[:3, 3] = -onto[:3, :3] @ np.full(3, 2.0)  # the middle of 5 x 5 x 5 voxels: at most 14 mm away
    found = regrid(values, field, (5, 5, 5), onto)
    expected = np.tensordot(slope, np.tensordot(onto[:3, :3], np.indices((5, 5, 5)), 1).T + onto[:3, 3], (0, -1))
    np.testing.assert_allclose(found, expected.T, atol=2e-4)
