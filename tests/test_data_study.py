"""A study in memory: right way up, in one piece, and back to the file's order without a change."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_studies import head, isles2022_root, lesion, save

from jaxstroke.data.case import Case
from jaxstroke.data.study import read_study
from jaxstroke.errors import UserError
from jaxstroke.files import nifti

SHAPE = (4, 10, 8)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_every_storage_order_comes_out_the_same_way_up_and_goes_back(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    """Against nibabel's own closest canonical form (R-A-S), for all 48 ways to store a volume, slightly oblique."""
    affine = np.eye(4)
    affine[:3, :3] = 0.02
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * (axis + 1.0)
    stored = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    path = save(tmp_path / "dwi.nii", stored, affine)
    study = read_study(Case("s", "p", {"DWI": path}, {}, "isles2022"), ["DWI"])
    canonical = nib.as_closest_canonical(nib.load(path))
    expected = canonical.get_fdata().astype(np.float32)[::-1, ::-1].transpose(2, 1, 0)  # S, then P, then L
    np.testing.assert_array_equal(study.images["DWI"], expected)
    np.testing.assert_array_equal(study.grid.to_file(study.images["DWI"]), stored)
    np.testing.assert_allclose(study.spacing_mm, canonical.header.get_zooms()[::-1], rtol=1e-5)


def test_isles2018_keeps_the_stored_order_and_the_voxel_sizes(tmp_path: Path) -> None:
    """Its identity sform means nothing: slices are the third axis as stored, spacing is pixdim."""
    stored = np.arange(4 * 5 * 2, dtype=np.float64).reshape(4, 5, 2)
    series = np.stack([stored, stored + 1000, stored + 2000], axis=-1).astype(np.float32)
    pixdim = [1, 0.98, 0.97, 5, 1, 1, 1, 1]
    files = {
        "MTT": save(tmp_path / "mtt.nii", stored, pixdim=pixdim),
        "CTP": save(tmp_path / "ctp.nii", series, pixdim=pixdim),
    }
    study = read_study(Case("case_1", "p", files, {}, "isles2018"), ["MTT", "CTP"])
    np.testing.assert_allclose(study.spacing_mm, (5, 0.97, 0.98), rtol=1e-6)
    np.testing.assert_array_equal(study.images["MTT"], stored.transpose(2, 1, 0))
    np.testing.assert_array_equal(study.images["CTP"][2], stored.transpose(2, 1, 0) + 2000)
    np.testing.assert_array_equal(study.grid.to_file(study.images["MTT"]), stored)


def test_a_mask_goes_to_disk_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    mask = lesion(SHAPE, {1: (2, 3), 2: (6, 4)})
    (case,) = isles2022_root(tmp_path, [mask])
    study = read_study(case, ["DWI", "ADC"], ["lesion"])
    np.testing.assert_array_equal(study.masks["lesion"], mask)
    nifti.write_volume(tmp_path / "out.nii.gz", study.grid.to_file(study.masks["lesion"]), like=study.grid.header)
    before, after = nib.load(case.masks["lesion"]), nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(before.get_fdata(), after.get_fdata())
    np.testing.assert_array_equal(before.affine, after.affine)


def test_adc_is_in_micro_mm2_per_s(tmp_path: Path) -> None:
    (case,) = isles2022_root(tmp_path, [lesion(SHAPE, {})])
    adc = read_study(case, ["ADC"]).images["ADC"]
    np.testing.assert_allclose(adc, head(SHAPE, 1001) * 10, rtol=1e-4)


# --- what does not fit ---


def study_of(tmp_path: Path, **arrays: tuple[np.ndarray, np.ndarray]) -> Case:
    files = {word: save(tmp_path / f"{word}.nii", array, affine) for word, (array, affine) in arrays.items()}
    masks = {"lesion": files.pop("lesion")} if "lesion" in files else {}
    return Case("s1", "p", files, masks, "isles2022")


def test_another_shape_or_place_is_an_error_that_names_both(tmp_path: Path) -> None:
    volume, here = np.zeros((4, 5, 6), np.float32), np.eye(4)
    moved = np.eye(4)
    moved[0, 3] = 0.1
    case = study_of(tmp_path, DWI=(volume, here), ADC=(volume, moved), FLAIR=(np.zeros((8, 8, 8), np.float32), here))
    with pytest.raises(UserError, match="ADC of study s1 does not lie on the grid of DWI .*affines differ"):
        read_study(case, ["DWI", "ADC"])
    with pytest.raises(UserError, match=r"FLAIR of study s1 .*\(8, 8, 8\) and \(4, 5, 6\).*register it to DWI"):
        read_study(case, ["DWI", "FLAIR"])


def test_rounding_of_an_affine_is_no_error(tmp_path: Path) -> None:
    volume, moved = np.zeros((4, 5, 6), np.float32), np.eye(4)
    moved[0, 3] = 1e-4
    read_study(study_of(tmp_path, DWI=(volume, np.eye(4)), ADC=(volume, moved)), ["DWI", "ADC"])


def test_a_header_that_contradicts_itself_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "dwi.nii", np.zeros((4, 4, 4), np.float32), pixdim=[1, 2, 2, 2, 1, 1, 1, 1])
    with pytest.raises(UserError, match=r"dwi\.nii: its affine has voxels of 1 x 1 x 1 mm, its pixdim of 2 x 2 x 2 mm"):
        read_study(Case("s", "p", {"DWI": path}, {}, "isles2022"), ["DWI"])


def test_a_missing_image_or_mask_names_the_study_and_what_there_is(tmp_path: Path) -> None:
    case = study_of(tmp_path, DWI=(np.zeros((4, 5, 6), np.float32), np.eye(4)))
    with pytest.raises(UserError, match="study s1: it has no image FLAIR; its images are: DWI"):
        read_study(case, ["DWI", "FLAIR"])
    with pytest.raises(UserError, match="study s1: it has no mask lesion; its masks are: none"):
        read_study(case, ["DWI"], ["lesion"])


@pytest.mark.parametrize("values", [(-1, 0), (0, 0.5)])
def test_a_mask_must_hold_whole_labels(tmp_path: Path, values: tuple[float, float]) -> None:
    mask = np.full((4, 4, 4), values[0], np.float32)
    mask[0] = values[1]
    case = study_of(tmp_path, DWI=(np.zeros((4, 4, 4), np.float32), np.eye(4)), lesion=(mask, np.eye(4)))
    with pytest.raises(UserError, match="not a mask of whole labels"):
        read_study(case, ["DWI"], ["lesion"])


def test_a_series_is_no_volume_and_a_volume_no_series(tmp_path: Path) -> None:
    case = study_of(tmp_path, DWI=(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)))
    with pytest.raises(UserError, match="DWI must be one volume"):
        read_study(case, ["DWI"])
    files = {"CTP": save(tmp_path / "ctp.nii", np.zeros((4, 4, 4), np.float32))}
    with pytest.raises(UserError, match="CTP must be a series"):
        read_study(Case("s", "p", files, {}, "isles2018"), ["CTP"])
