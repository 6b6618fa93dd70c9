"""The stream: a sample depends on seed and index alone, everything is seen, lesions are where they should be."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_studies import isles2022_root, lesion, save

from jaxstroke.augment import augment
from jaxstroke.data import stream
from jaxstroke.data.cache.building import build_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.case import Case
from jaxstroke.errors import UserError
from jaxstroke.experiment import Augment, Data, catalogue, overrides

SLICES = Data("isles2022", (("DWI",), ("ADC",)), size=16, spacing_mm=2.0, batch=4)
CLIPS = dataclasses.replace(SLICES, example="clip", depth=3)
VOLUMES = dataclasses.replace(SLICES, example="volume", depth=4)
MASKS = [
    lesion((7, 40, 32), {1: (8, 8), 2: (25, 20)}),
    lesion((2, 40, 32), {}),
    lesion((5, 40, 32), {4: (12, 7)}, side=5),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    root = tmp_path_factory.mktemp("stream")
    return build_cache(isles2022_root(root / "data", MASKS), SLICES, root / "cache")


def names(cache: Cache) -> list[str]:
    return [study.study for study in cache.studies]


def take(batches: Iterator[stream.Batch], count: int) -> list[stream.Batch]:
    taken = list(itertools.islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return taken


def assert_same(one: list[stream.Batch], two: list[stream.Batch]) -> None:
    assert len(one) == len(two)
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)
            assert left[name].dtype == right[name].dtype


# --- shapes ---


@pytest.mark.parametrize(
    ("data", "images", "masks", "valid"),
    [
        (SLICES, (4, 16, 16, 2), (4, 16, 16, 1), (4,)),
        (CLIPS, (4, 3, 16, 16, 2), (4, 3, 16, 16, 1), (4, 3)),
        (VOLUMES, (4, 4, 16, 16, 2), (4, 4, 16, 16, 1), (4, 4)),
    ],
)
def test_shapes_and_types(cache: Cache, data: Data, images: tuple, masks: tuple, valid: tuple) -> None:
    shapes = {"images": images, "masks": masks, "distance": masks, "valid": valid, "index": (4,)}
    types = {"images": "float32", "masks": "uint8", "distance": "float16", "valid": "bool", "index": "int64"}
    for batch in (
        *take(stream.training_batches(cache, names(cache), data, seed=0), 2),
        *stream.ordered_batches(cache, names(cache), data),
    ):
        assert {name: value.shape for name, value in batch.items()} == shapes
        assert {name: str(value.dtype) for name, value in batch.items()} == types


def test_a_series_is_time_points_of_one_slice(tmp_path: Path) -> None:
    """Slice d at time t holds its own number, so that order and normalisation can be read off."""
    series = np.full((32, 32, 3, 8), -1000, np.float32)
    series[8:24, 8:24] = 100 * np.arange(3)[:, None] + 10 * np.arange(8)
    files = {"CTP": save(tmp_path / "ctp.nii", series)}
    masks = {"lesion": save(tmp_path / "ot.nii", (series[..., 0] == 100).astype(np.uint8))}
    data = Data(
        "isles2018", (("CTP",),), example="series", depth=8, size=32, spacing_mm=1.0, batch=2, normalise="window"
    )
    cache = build_cache([Case("case_1", "p", files, masks, "isles2018")], data, tmp_path / "cache")
    batches = list(stream.ordered_batches(cache, ["case_1"], data))
    assert batches[0]["images"].shape == (2, 8, 32, 32, 2) and batches[0]["masks"].shape == (2, 32, 32, 1)
    np.testing.assert_allclose(batches[0]["images"][1, :, 16, 16, 0], (100 + 10 * np.arange(8)) / 200, rtol=1e-6)
    assert [bool(mask.any()) for mask in batches[0]["masks"]] == [False, True]


@pytest.mark.slow
def test_the_mirror_image_of_a_series_is_the_other_side_of_the_head_after_every_change(tmp_path: Path) -> None:
    """The right half is .25, the left .75, wherever the head lies: cropped and turned, the two channels add up to 1."""
    sides = np.zeros((48, 48, 1, 4), np.float32)
    sides[6:30, 8:40], sides[18:30, 8:40] = 50, 150  # (X, Y): the head is not in the middle
    files = {"CTP": save(tmp_path / "ctp.nii", sides - 1000 * (sides == 0))}
    masks = {"lesion": save(tmp_path / "ot.nii", (sides[..., 0] == 150).astype(np.uint8))}
    data = Data(
        "isles2018", (("CTP",),), example="series", depth=4, size=24, spacing_mm=1.0, batch=4, normalise="window"
    )
    cache = build_cache([Case("case_1", "p", files, masks, "isles2018")], data, tmp_path / "cache")
    batch = next(stream.training_batches(cache, ["case_1"], data, seed=3))
    spec = Augment(probability=1.0, rotate_degrees=90.0, flip_left_right=True)
    for images in (batch["images"], np.asarray(augment(jax.random.key(1), batch, spec)["images"])):
        inner = (images > 0.2).all(axis=-1)
        assert inner.mean() > 0.2
        both = images.sum(axis=-1)
        assert both.max() < 1.001, "the same side in both channels would give 1.5"
        assert (both[inner] > 0.999).mean() > 0.9, "but for the head's edge, which sampling blends with the air"


# --- determinism ---


@settings(max_examples=10)
@given(step=st.integers(0, 10**9), seed=st.integers(0, 2**31))
def test_a_run_may_resume_at_any_step(cache: Cache, step: int, seed: int) -> None:
    data = dataclasses.replace(SLICES, lesion_fraction=0.5)
    whole = take(stream.training_batches(cache, names(cache), data, seed=seed, start_step=step), 3)
    tail = take(stream.training_batches(cache, names(cache), data, seed=seed, start_step=step + 2), 1)
    assert_same(whole[2:], tail)
    np.testing.assert_array_equal(whole[0]["index"], step * 4 + np.arange(4))


def test_a_sample_does_not_depend_on_the_batch_it_is_in(cache: Cache) -> None:
    data = dataclasses.replace(CLIPS, lesion_fraction=0.5)
    by_four = take(stream.training_batches(cache, names(cache), data, seed=3), 3)
    by_six = take(stream.training_batches(cache, names(cache), dataclasses.replace(data, batch=6), seed=3), 2)
    for name in by_four[0]:
        four, six = (np.concatenate([batch[name] for batch in batches]) for batches in (by_four, by_six))
        np.testing.assert_array_equal(four, six)


def test_seeds_and_epochs_differ(cache: Cache) -> None:
    first, other = (take(stream.training_batches(cache, names(cache), SLICES, seed=seed), 4) for seed in (0, 1))
    assert any((one["images"] != two["images"]).any() for one, two in zip(first, other, strict=True))
    told = stream.describe_examples(cache, names(cache), SLICES, seed=0, index=np.arange(28))
    assert sorted(told[:14]) == sorted(told[14:]) and told[:14] != told[14:]


@pytest.mark.parametrize("threads", [1, 7])
def test_the_number_of_threads_changes_nothing(cache: Cache, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataclasses.replace(CLIPS, lesion_fraction=0.5)
    here = take(stream.training_batches(cache, names(cache), data, seed=5, start_step=7), 5)
    monkeypatch.setattr(stream.cores, "usable", lambda: threads)
    monkeypatch.setattr(stream, "_THREADS", threads)
    assert_same(here, take(stream.training_batches(cache, names(cache), data, seed=5, start_step=7), 5))


# --- what is drawn ---


@pytest.mark.parametrize("data", [SLICES, CLIPS, VOLUMES])
def test_in_order_every_slice_comes_exactly_once(cache: Cache, data: Data) -> None:
    """Each slice of the cache, cropped in the middle, is found in its place; the rest is marked as padding."""
    examples = stream.examples(cache, names(cache), data)
    assert stream.examples_per_epoch(cache, names(cache), data) == len(examples)
    covered = [(one.study, index) for one in examples for index in range(one.start, one.start + one.count)]
    assert covered == [(study.study, index) for study in cache.studies for index in range(study.slices)]
    batches = list(stream.ordered_batches(cache, names(cache), data))
    index = np.concatenate([batch["index"] for batch in batches])
    assert index.tolist() == [*range(len(examples)), *[-1] * (len(index) - len(examples))]
    valid = np.concatenate([batch["valid"] for batch in batches])
    assert not valid[len(examples) :].any()
    assert valid.sum() == len(covered)
    images = np.concatenate([batch["images"] for batch in batches])
    assert not images[len(examples) :].any()
    for example, image in zip(examples, images, strict=False):
        _, height, width = cache.study(example.study).shape
        top, left = (height - 16) // 2, (width - 16) // 2
        whole = cache.array(example.study, "images")[example.start : example.start + example.count]
        image = image if image.ndim == 4 else image[None]
        np.testing.assert_array_equal(image[: example.count], whole[:, top : top + 16, left : left + 16])
        assert not image[example.count :].any()


def test_processes_share_each_batch_by_rows(cache: Cache) -> None:
    """Rows 2 and 3 of each batch are what a process sees that has these, in training and in order."""
    whole = take(stream.training_batches(cache, names(cache), SLICES, seed=2, start_step=1), 3)
    share = take(stream.training_batches(cache, names(cache), SLICES, seed=2, start_step=1, rows=range(2, 4)), 3)
    assert_same([{name: values[2:4] for name, values in batch.items()} for batch in whole], share)
    ordered = [list(stream.ordered_batches(cache, names(cache), SLICES, rows=rows)) for rows in (None, range(2, 4))]
    assert_same([{name: values[2:4] for name, values in batch.items()} for batch in ordered[0]], ordered[1])


def test_an_epoch_sees_every_slice_once(cache: Cache) -> None:
    told = stream.describe_examples(cache, names(cache), SLICES, seed=9, index=np.arange(14, 28))
    assert sorted(told) == sorted(str(example) for example in stream.examples(cache, names(cache), SLICES))


@pytest.mark.parametrize("data", [SLICES, CLIPS, VOLUMES])
@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_the_wanted_share_of_examples_holds_lesion(cache: Cache, data: Data, fraction: float) -> None:
    data = dataclasses.replace(data, lesion_fraction=fraction, batch=50)
    masks = np.concatenate([b["masks"] for b in take(stream.training_batches(cache, names(cache), data, seed=1), 6)])
    share = masks.reshape(len(masks), -1).any(axis=1).mean()
    if fraction == 1:
        assert share == 1
    else:
        assert share >= fraction - 0.1
    if fraction == 0 and data is SLICES:
        assert share <= 3 / 14, "as they come: a random crop may even miss the lesion"


@pytest.mark.parametrize("data", [CLIPS, VOLUMES])
def test_clips_start_everywhere_and_short_studies_are_padded(cache: Cache, data: Data) -> None:
    data = dataclasses.replace(data, batch=100)
    (batch,) = take(stream.training_batches(cache, names(cache), data, seed=1), 1)
    told = stream.describe_examples(cache, names(cache), data, seed=1, index=batch["index"])
    starts = {one for one in told if one.startswith(names(cache)[0])}
    assert len(starts) == 7 - data.depth + 1
    short = [position for position, one in enumerate(told) if one == f"{names(cache)[1]} slices 0-1"]
    assert short and not batch["images"][short][:, 2:].any() and batch["images"][short][:, :2].any()
    np.testing.assert_array_equal(batch["valid"][short], [np.arange(data.depth) < 2] * len(short))


def test_masks_and_distances_are_cut_with_the_image(cache: Cache) -> None:
    data = dataclasses.replace(SLICES, lesion_fraction=1.0, batch=30)
    (batch,) = take(stream.training_batches(cache, names(cache), data, seed=1), 1)
    assert (batch["distance"][batch["masks"] == 1] <= 0).all() and (batch["distance"][batch["masks"] == 0] > 0).all()
    corners = {tuple(np.argwhere(mask[..., 0])[0]) for mask in batch["masks"]}
    assert len(corners) > 10, "the lesion is not always in the same place of the crop"


def test_an_epoch_counts_examples_or_slices(cache: Cache) -> None:
    """7, 2 and 5 slices are 3, 1 and 2 clips of 3: three batches of 2 clips, or five of 3 of 14 slices."""
    small = {"data.layout": "isles2022", "data.example": "clip", "data.depth": 3, "data.batch": 2}
    experiment = overrides.override(catalogue.load("dme_isles18", scale="small"), small)
    told = {"{}": 3, '{"training.slices_per_step": 3}': 5, '{"training.steps_per_epoch": 7}': 7}
    for changes, steps in told.items():
        one = overrides.override(experiment, json.loads(changes))
        assert stream.steps_per_epoch(cache, names(cache), one) == steps
    wider = overrides.override(experiment, {"training.slices_per_step": 3, "data.batch": 8})
    assert stream.steps_per_epoch(cache, names(cache), wider) == 5, "whatever the batch"
    with pytest.raises(UserError, match=r"training\.slices_per_step=3: training\.steps_per_epoch=7"):
        overrides.override(wider, {"training.steps_per_epoch": 7})


@given(position=st.integers(0, 30), length=st.integers(1, 40), extent=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_window_holds_its_place_and_fits(position: int, length: int, extent: int, seed: int) -> None:
    position = min(position, extent - 1)
    start = stream._window_with(np.random.default_rng(seed), position, length, extent)
    assert start <= position < start + length and start >= 0
    assert start + length <= extent or start == 0


# --- limits ---


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    """A cache twelve times as large: what is held while streaming grows by far less than what was added.

    How many batches are in flight at the peak is a matter of the threads' luck, so the peaks need not be equal.
    """
    peaks, sizes = [], []
    for studies in (2, 24):
        masks = [lesion((6, 64, 64), {1: (30, 30)})] * studies
        data = dataclasses.replace(SLICES, size=48, spacing_mm=None)
        cache = build_cache(isles2022_root(tmp_path / f"{studies}", masks), data, tmp_path / "cache")
        batches = stream.training_batches(cache, names(cache), data, seed=0)
        next(batches)
        tracemalloc.start()
        for _ in range(48):
            next(batches)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        batches.close()  # type: ignore[attr-defined]
        sizes.append(sum(path.stat().st_size for path in cache.folder.glob("*.npy")))
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 3, (peaks, sizes)


def test_what_cannot_be_drawn_is_said(cache: Cache) -> None:
    (_, bare, _) = names(cache)
    with pytest.raises(UserError, match="no slice of the training studies holds lesion"):
        next(stream.training_batches(cache, [bare], dataclasses.replace(SLICES, lesion_fraction=0.5), seed=0))
    with pytest.raises(UserError, match="no study to train on"):
        next(stream.training_batches(cache, [], SLICES, seed=0))
    with pytest.raises(UserError, match="from 0 to 1"):
        next(stream.training_batches(cache, names(cache), dataclasses.replace(SLICES, lesion_fraction=2.0), seed=0))
    assert list(stream.ordered_batches(cache, [], SLICES)) == []
