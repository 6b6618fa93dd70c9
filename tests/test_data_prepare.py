"""Preparation: values by hand, geometry that comes back, distances against brute force."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_studies import head, lesion, save

from jaxstroke.data import prepare
from jaxstroke.data.case import Case
from jaxstroke.data.study import Grid, Study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data
from jaxstroke.files import nifti

ORDER = np.array([[2, 1], [1, 1], [0, 1]])
MRI = Data("isles2022", (("DWI",), ("ADC",)), size=32, spacing_mm=None)
CT = Data("isles2018", (("CBF", "Tmax"), ("CT",)), size=32, spacing_mm=1.0)


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> nifti.Header:
    path = save(tmp_path_factory.mktemp("grid") / "any.nii", np.zeros((2, 2, 2), np.uint8))
    return nifti.read_header(path)


def study_of(
    header: nifti.Header,
    images: dict[str, np.ndarray],
    masks: dict[str, np.ndarray] | None = None,
    spacing_mm: tuple[float, float, float] = (5.0, 1.0, 1.0),
    layout: str = "isles2022",
) -> Study:
    return Study(Case("s1", "p", {}, {}, layout), images, masks or {}, spacing_mm, Grid(header, ORDER))


# --- intensities ---


def test_median_and_iqr_of_each_slice_inside_the_head(header: nifti.Header) -> None:
    """Slice 0 holds 1..5 (median 3, IQR 2), slice 1 one value only (IQR 0 counts as 1), slice 2 no head."""
    dwi = np.zeros((3, 8, 8), np.float32)
    dwi[0, 2, 1:6] = [1, 2, 3, 4, 5]
    dwi[1, 3, 3:5] = 7
    data = dataclasses.replace(MRI, groups=(("DWI",),), size=8)
    images = prepare.prepare(study_of(header, {"DWI": dwi}), data).images[..., 0]
    np.testing.assert_allclose(images[0, 2, 1:6], [-1, -0.5, 0, 0.5, 1])
    assert np.count_nonzero(images[0]) == 4 and not images[1:].any()


def test_an_artefact_is_clipped(header: nifti.Header) -> None:
    dwi = head((1, 32, 32))
    dwi[0, 16, 16] = 1e6
    data = dataclasses.replace(MRI, groups=(("DWI",),))
    assert prepare.prepare(study_of(header, {"DWI": dwi}), data).images.max() == 8


@given(scale=st.floats(0.1, 1000), shift=st.floats(-1000, 1000))
@settings(max_examples=25)
def test_normalised_images_do_not_know_the_scanners_units(header: nifti.Header, scale: float, shift: float) -> None:
    dwi = head((2, 32, 32))
    inside = dwi != 0
    other = np.where(inside, dwi * scale + shift + 1e-3, 0).astype(np.float32)
    for how in ("median_iqr", "zscore"):
        data = dataclasses.replace(MRI, groups=(("DWI",),), normalise=how)
        one = prepare.prepare(study_of(header, {"DWI": dwi}), data).images
        two = prepare.prepare(study_of(header, {"DWI": other}), data).images
        np.testing.assert_allclose(one, two, atol=5e-2)


def test_zscore_is_of_the_volume_inside_the_head(header: nifti.Header) -> None:
    dwi = head((3, 32, 32))
    dwi[1] *= 2
    data = dataclasses.replace(MRI, groups=(("DWI",),), normalise="zscore")
    images = prepare.prepare(study_of(header, {"DWI": dwi}), data).images[..., 0]
    inside = dwi != 0
    assert abs(images[inside].mean()) < 1e-5 and abs(images[inside].std() - 1) < 1e-5
    assert not images[~inside].any()


def test_windows_are_fixed_and_physical(header: nifti.Header) -> None:
    adc = np.array([[[0, -50, 750, 1500, 3000, 9000, 0, 0]] * 8], np.float32)
    data = dataclasses.replace(MRI, groups=(("ADC",),), normalise="window", size=8)
    images = prepare.prepare(study_of(header, {"ADC": adc}), data).images
    np.testing.assert_allclose(images[0, 0, :6, 0], [0, 0, 0.25, 0.5, 1, 1])
    with pytest.raises(UserError, match="DWI has no fixed physical window"):
        prepare.prepare(study_of(header, {"DWI": adc}), dataclasses.replace(data, groups=(("DWI",),)))


def test_one_image_is_normalised_in_a_way_of_its_own(header: nifti.Header) -> None:
    """Beside a map of mean 0 and deviation 1, CT by its window of 0 to 80 HU: the skull flattens no brain."""
    inside = head((2, 32, 32)) != 0
    ct = np.where(inside, 32.0, -1000.0).astype(np.float32)
    ct[:, 8:10, 14:18] = 1000.0
    ct[0, 16, 16] = 20.0
    images = {"CBF": head((2, 32, 32)), "CT": ct}
    data = dataclasses.replace(CT, groups=(("CBF", "CT"),), spacing_mm=None, normalise="zscore")
    own = dataclasses.replace(data, normalise_of={"CT": "window"})
    both, apart = (prepare.prepare(study_of(header, images, layout="isles2018"), one).images for one in (data, own))
    np.testing.assert_array_equal(apart[..., 0], both[..., 0])
    np.testing.assert_allclose(apart[:, 16, 14, 1], [0.4, 0.4])
    np.testing.assert_allclose([apart[0, 16, 16, 1], apart[0, 8, 15, 1], apart[0, 0, 0, 1]], [0.25, 1, 0])
    assert abs(both[0, 16, 16, 1] - both[0, 16, 14, 1]) < 0.1, "12 HU, where the window gives 0.15"
    with pytest.raises(UserError, match=r"data\.normalise_of\.DWI=window: DWI has no fixed physical window"):
        wrong = dataclasses.replace(MRI, groups=(("DWI",),), normalise_of={"DWI": "window"})
        prepare.prepare(study_of(header, {"DWI": head((1, 32, 32))}), wrong)


@pytest.mark.parametrize("background", [-23.0, -1000.0, 0.0, -3024.0])
def test_the_head_of_a_ct_is_told_from_any_background(header: nifti.Header, background: float) -> None:
    """Outside becomes 0; inside, also where Tmax is 0, values are normalised."""
    inside = head((2, 48, 48)) != 0
    noise = np.random.default_rng(2).normal(0, 4, inside.shape) * (background != 0)
    noise[inside] = np.random.default_rng(3).normal(0, 4, inside.sum())
    ct = np.where(inside, 33.0, background) + (noise if background == -1000 else noise * inside)
    tmax = (inside * 5.0).astype(np.float32)
    tmax[:, :, :24] = 0
    images = {"CBF": (inside * 300.0).astype(np.float32), "Tmax": tmax, "CT": ct.astype(np.float32)}
    data = dataclasses.replace(CT, spacing_mm=None, size=48)
    prepared = prepare.prepare(study_of(header, images, layout="isles2018"), data).images
    assert not prepared[~inside].any()
    assert np.count_nonzero(prepared[..., 2][inside]) > 0.95 * inside.sum()
    assert np.count_nonzero(prepared[..., 1][inside]) > 0.3 * inside.sum()


@pytest.mark.parametrize("with_adc", [False, True])
def test_the_head_stands_out_from_noise(header: nifti.Header, with_adc: bool) -> None:
    """DWI with the skull, Rayleigh noise around it; a masked ADC beside it tells the head exactly."""
    inside = head((3, 64, 64)) != 0
    noise = np.random.default_rng(0).rayleigh(20, inside.shape)
    dwi = np.where(inside, 300 + noise, noise).astype(np.float32)
    images = {"DWI": dwi, "ADC": (inside * (800 + noise)).astype(np.float32)}
    words = ("DWI", "ADC") if with_adc else ("DWI",)
    data = dataclasses.replace(MRI, groups=(words,), size=64)
    prepared = prepare.prepare(study_of(header, images), data).images[..., 0]
    wrong = ((prepared != 0) != inside).mean()
    assert wrong < (0.002 if with_adc else 0.01)
    assert abs(np.median(prepared[inside])) < 0.05


def test_a_series_is_normalised_over_time_together(header: nifti.Header) -> None:
    """The rise of a bolus stays: the same tissue is brighter at its peak; the ends are the series' own ends."""
    inside = head((2, 32, 32)) != 0
    noise = np.random.default_rng(0).normal(0, 2, inside.shape)
    bolus = np.exp(-0.5 * ((np.arange(30) - 15) / 4) ** 2)
    series = np.stack([np.where(inside, 35 + noise + 10 * rise, -1000) for rise in bolus]).astype(np.float32)
    data = dataclasses.replace(CT, groups=(("CTP",),), example="series", depth=10, spacing_mm=None)
    images = prepare.prepare(study_of(header, {"CTP": series}, layout="isles2018"), data).images
    assert images.shape == (2, 32, 32, 10)
    curve = images[inside].mean(axis=0)
    assert curve.argmax() in (4, 5) and curve.max() - curve.min() > 1
    assert not images[~inside].any()


def test_ctp_is_a_series_and_nothing_else(header: nifti.Header) -> None:
    study = study_of(header, {"CTP": np.zeros((3, 1, 8, 8), np.float32)}, layout="isles2018")
    with pytest.raises(UserError, match="example=series"):
        prepare.prepare(study, dataclasses.replace(CT, groups=(("CTP", "CT"),)))
    with pytest.raises(UserError, match="takes CTP alone, not CT"):
        prepare.prepare(study, dataclasses.replace(CT, groups=(("CT",),), example="series"))
    with pytest.raises(UserError, match="study s1: CBF was not read"):
        prepare.prepare(study, CT)


# --- geometry ---


@settings(max_examples=30)
@given(
    plane=st.tuples(st.integers(6, 40), st.integers(6, 40)),
    size=st.integers(8, 48),
    spacing_mm=st.sampled_from([None, 1.0, 0.7, 2.3]),
    seed=st.integers(0, 99),
)
def test_shapes_and_the_way_back(
    header: nifti.Header, plane: tuple[int, int], size: int, spacing_mm: float | None, seed: int
) -> None:
    dwi = head((2, *plane), seed)
    data = dataclasses.replace(MRI, groups=(("DWI",),), size=size, spacing_mm=spacing_mm)
    masks = {"lesion": (dwi > 100).astype(np.uint8)}
    prepared = prepare.prepare(study_of(header, {"DWI": dwi}, masks), data)
    assert prepared.images.shape == (2, *prepared.inverse.prepared, 1)
    assert prepared.masks.shape == prepared.distance.shape == (*prepared.images.shape[:3], 1)
    assert min(prepared.inverse.prepared) >= size
    if spacing_mm is None:
        assert prepared.inverse.prepared == (size, size)
    back = prepare.restore(np.ones((*prepared.images.shape[:3], 2), np.float32), prepared.inverse)
    assert back.shape == (2, *plane, 2) and back.dtype == np.float32
    assert back.min() >= 0 and back.max() <= 1 + 1e-6
    assert (back[dwi != 0] > 0.99).all(), "the head is inside what was kept"


def test_nothing_changes_where_nothing_is_resampled(header: nifti.Header) -> None:
    """A grid that has the wanted pixels is cropped and padded only: masks come back bit for bit."""
    dwi, mask = head((3, 40, 32)), lesion((3, 40, 32), {0: (12, 9), 2: (20, 17)})
    data = dataclasses.replace(MRI, groups=(("DWI",),), size=48, spacing_mm=1.0)
    prepared = prepare.prepare(study_of(header, {"DWI": dwi}, {"lesion": mask}), data)
    assert prepared.inverse.prepared == (48, 48) and prepared.masks.sum() == mask.sum()
    np.testing.assert_array_equal(prepare.restore(prepared.masks, prepared.inverse)[..., 0], mask)
    assert prepared.spacing_mm == (5.0, 1.0, 1.0)


@pytest.mark.parametrize("spacing_mm", [0.7, 1.5, 2.5])
def test_resampling_moves_nothing(header: nifti.Header, spacing_mm: float) -> None:
    """The centre of a disc, in mm, and its area stay within a tenth of a prepared pixel or 3 %."""
    y, x = np.mgrid[:64, :64]
    disc = (((y - 22.3) ** 2 + (x - 37.8) ** 2) < 14**2).astype(np.uint8)[None]
    dwi = head((1, 64, 64)) + 1
    data = dataclasses.replace(MRI, groups=(("DWI",),), size=16, spacing_mm=spacing_mm)
    prepared = prepare.prepare(study_of(header, {"DWI": dwi}, {"lesion": disc}), data)
    area = prepared.spacing_mm[1] * prepared.spacing_mm[2]
    assert abs(prepared.masks.sum() * area / disc.sum() - 1) < 0.03
    back = prepare.restore(prepared.masks.astype(np.float32), prepared.inverse)[0, ..., 0]
    centre = [(back * grid).sum() / back.sum() for grid in (y, x)]
    np.testing.assert_allclose(centre, [22.3, 37.8], atol=0.05 + 0.1 * spacing_mm)


def test_shrinking_averages_and_does_not_alias(header: nifti.Header) -> None:
    """A checkerboard shrunk by 3 is grey; picking or interpolating pixels would leave a pattern, since new pixels lie
    on old ones."""
    board = (np.indices((66, 66)).sum(axis=0) % 2).astype(np.float32)[None, ..., None]
    small = prepare._resample(board, (22, 22))
    np.testing.assert_allclose(small, 0.5, atol=0.02)


@given(before=st.integers(1, 40), after=st.integers(1, 40))
def test_interpolation_keeps_constants_and_lines(before: int, after: int) -> None:
    weights = prepare._weights(before, after)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    places = (np.arange(after) + 0.5) * before / after - 0.5
    inner = (places >= 0) & (places <= before - 1)
    if before / after <= 1.5:
        np.testing.assert_allclose((weights @ np.arange(before))[inner], places[inner], atol=1e-4)


def test_a_study_without_masks_can_be_prepared(header: nifti.Header) -> None:
    prepared = prepare.prepare(study_of(header, {"DWI": head((1, 32, 32)), "ADC": head((1, 32, 32))}), MRI)
    assert prepared.masks.shape == (1, 32, 32, 0)
    study = study_of(header, {"DWI": head((1, 32, 32)), "ADC": head((1, 32, 32))}, {"x": np.zeros((1, 32, 32))})
    with pytest.raises(UserError, match="study s1: it has no mask lesion; its masks are: x"):
        prepare.prepare(study, MRI)


# --- distance ---


def brute_distance(mask: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel."""
    inside, outside = np.argwhere(mask == 1), np.argwhere(mask == 0)
    result = np.zeros(mask.shape)
    for place in np.ndindex(mask.shape):
        if mask[place]:
            result[place] = -(np.sqrt(((outside - place) ** 2).sum(axis=1)).min() - 1)
        else:
            result[place] = np.sqrt(((inside - place) ** 2).sum(axis=1)).min()
    return result


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.02, 0.95))
def test_distance_is_its_definition(seed: int, share: float) -> None:
    mask = (np.random.default_rng(seed).random((9, 7)) < share).astype(np.uint8)
    got = prepare.signed_distance(mask[None, ..., None])[0, ..., 0]
    if 0 < mask.sum() < mask.size:
        np.testing.assert_allclose(got, brute_distance(mask), atol=1e-5)
    else:
        assert not got.any()


def test_distance_of_each_slice_and_target_apart() -> None:
    masks = np.zeros((2, 5, 5, 2), np.uint8)
    masks[0, 1:4, 1:4, 0] = 1
    distance = prepare.signed_distance(masks)
    assert distance[0, 2, 2, 0] == -1 and distance[0, 1, 1, 0] == 0 and distance[0, 0, 2, 0] == 1
    assert not distance[0, ..., 1].any() and not distance[1].any()


def test_the_cache_keeps_distances_well_enough() -> None:
    """float16 is exact to .06 within 128 pixels, the sixteenth of a pixel that the cache promises."""
    values = np.sqrt(np.arange(0, 128**2, 7)).astype(np.float32)
    assert np.abs(values.astype(np.float16).astype(np.float32) - values).max() <= 0.0625
