"""The cache: used again only for the same thing, verified, mended aloud, resumed after an interruption."""

from __future__ import annotations

import ast
import concurrent.futures
import dataclasses
import json
import multiprocessing
import threading
from pathlib import Path

import numpy as np
import pytest
from small_studies import isles2022_root, lesion

from jaxstroke.data.cache import building as caches
from jaxstroke.data.cache import format as cache_format
from jaxstroke.data.cache.building import build_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.case import Case
from jaxstroke.data.prepare import prepare, restore
from jaxstroke.data.study import read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data

DATA = Data("isles2022", (("DWI",), ("ADC",)), size=16, spacing_mm=2.0)
MASKS = [lesion((4, 24, 20), {1: (8, 8), 2: (9, 9)}), lesion((3, 24, 20), {}), lesion((2, 24, 20), {0: (12, 7)}, 5)]


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    return isles2022_root(tmp_path / "data", MASKS)


def test_it_holds_what_preparation_gives(tmp_path: Path, cases: list[Case]) -> None:
    seen: list[str] = []
    cache = build_cache(cases, DATA, tmp_path / "cache", lambda steps, name: seen.append(name))
    assert seen == [study.study for study in cache.studies] == [case.study for case in cases]
    for case, study in zip(cases, cache.studies, strict=True):
        prepared = prepare(read_study(case, DATA.channels, DATA.targets), DATA)
        np.testing.assert_array_equal(cache.array(study.study, "images"), prepared.images)
        np.testing.assert_array_equal(cache.array(study.study, "masks"), prepared.masks)
        np.testing.assert_allclose(cache.array(study.study, "distance"), prepared.distance, atol=0.01)
        np.testing.assert_array_equal(cache.slices(study.study, "images", 1, 2), prepared.images[1:2])
        assert study.inverse == prepared.inverse and study.spacing_mm == prepared.spacing_mm
    assert [study.lesion_pixels for study in cache.studies] == [(0, 9, 9, 0), (0, 0, 0), (25, 0)]
    mask = restore(cache.array(cases[0].study, "masks"), cache.studies[0].inverse)
    np.testing.assert_array_equal(mask[..., 0], MASKS[0])


def test_slices_past_the_end_are_fewer(tmp_path: Path, cases: list[Case]) -> None:
    cache = build_cache(cases, DATA, tmp_path / "cache")
    assert len(cache.slices(cases[2].study, "masks", 1, 9)) == 1
    assert len(cache.slices(cases[2].study, "masks", 5, 9)) == 0


def test_threads_that_read_crops_never_enter_pythons_parser(
    tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy's reading of a header does, and CPython 3.11 ended a training in its second turn with a SystemError so."""
    cache = build_cache(cases, DATA, tmp_path)
    study = cache.studies[0].study
    expected = np.array(cache.array(study, "images"))

    def entered(*words: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch (before=57, after=53)")

    monkeypatch.setattr(ast, "literal_eval", entered)
    cache_format._array_header.cache_clear()  # pyright: ignore
    crop = np.empty((1, 4, 3, expected.shape[3]), expected.dtype)
    cache.read_crop(study, "images", 1, (2, 5), crop)
    np.testing.assert_array_equal(crop, expected[1:2, 2:6, 5:8])


@pytest.mark.parametrize("array", [np.zeros(3, np.float16), np.zeros((2, 0, 4), np.uint8), np.float64(1)])
def test_a_header_says_what_numpy_says(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)
    shape, dtype, offset = cache_format._array_header(path)  # pyright: ignore
    assert (shape, dtype) == (np.shape(array), np.asarray(array).dtype)
    assert path.stat().st_size == offset + np.asarray(array).nbytes


@pytest.mark.parametrize("array", [np.asfortranarray(np.ones((2, 3))), np.array(["a"]), np.zeros(2, [("a", "<f4")])])
def test_an_array_of_another_kind_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)
    with pytest.raises(ValueError, match="not a plain array"):
        cache_format._array_header(path)  # pyright: ignore


def test_it_is_plain_arrays_and_json(tmp_path: Path, cases: list[Case]) -> None:
    cache = build_cache(cases, DATA, tmp_path / "cache")
    for path in cache.folder.iterdir():
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        else:
            json.loads(path.read_text())
    assert len(list(cache.folder.iterdir())) == 3 * 4 + 1


def test_the_second_time_nothing_is_prepared(
    tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_cache(cases, DATA, tmp_path / "cache")
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    monkeypatch.setattr(caches, "prepare", None)
    assert build_cache(cases, DATA, tmp_path / "cache") == first == Cache.open(first.folder)
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == times


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"batch": 3, "fold": 2, "lesion_fraction": 0.3, "validation_fraction": 0.5}, True),
        ({"example": "clip", "depth": 4}, True),  # cut from the same cache
        ({"size": 24}, False),
        ({"spacing_mm": None}, False),
        ({"normalise": "zscore"}, False),
        ({"normalise_of": {"ADC": "window"}}, False),
        ({"normalise_of": {"CT": "window", "ADC": "median_iqr"}}, True),  # of no image here, and what it is anyway
        ({"groups": (("ADC",), ("DWI",))}, False),
    ],
)
def test_only_what_changes_preparation_changes_the_fingerprint(
    tmp_path: Path, cases: list[Case], changes: dict, same: bool
) -> None:
    first = build_cache(cases, DATA, tmp_path / "cache")
    other = build_cache(cases, dataclasses.replace(DATA, **changes), tmp_path / "cache")
    assert (first.fingerprint == other.fingerprint) == same
    assert Cache.open(first.folder) == first, "another recipe lies beside it"


def test_a_changed_source_file_is_prepared_anew(tmp_path: Path, cases: list[Case]) -> None:
    first = build_cache(cases, DATA, tmp_path / "cache")
    changed = isles2022_root(tmp_path / "data", [MASKS[0] * 0, *MASKS[1:]])
    second = build_cache(changed, DATA, tmp_path / "cache")
    assert second.fingerprint != first.fingerprint and not any(second.studies[0].lesion_pixels)


def test_the_same_data_elsewhere_is_the_same_cache(tmp_path: Path, cases: list[Case]) -> None:
    moved = isles2022_root(tmp_path / "elsewhere", MASKS)
    assert build_cache(moved, DATA, tmp_path / "cache") == build_cache(cases, DATA, tmp_path / "cache")


# --- damage and interruption ---


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("kind", ["images", "masks", "distance"])
def test_one_flipped_bit_is_found_and_mended_aloud(
    tmp_path: Path, cases: list[Case], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = build_cache(cases, DATA, tmp_path / "cache")
    flip_a_bit(cache.folder / f"{cases[1].study}.{kind}.npy")
    with pytest.raises(UserError, match=f"{kind}.npy: it is missing or damaged"):
        Cache.open(cache.folder)
    assert build_cache(cases, DATA, tmp_path / "cache") == cache == Cache.open(cache.folder)
    warned = capsys.readouterr().err
    assert f"{kind}.npy: it is missing or damaged; study {cases[1].study} is prepared again" in warned


def test_a_damaged_record_is_mended_and_a_damaged_index_written_anew(
    tmp_path: Path, cases: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    cache = build_cache(cases, DATA, tmp_path / "cache")
    (cache.folder / f"{cases[0].study}.json").write_text("{")
    (cache.folder / "index.json").write_text("")
    with pytest.raises(UserError, match="no readable index"):
        Cache.open(cache.folder)
    assert build_cache(cases, DATA, tmp_path / "cache") == cache
    assert "is prepared again" in capsys.readouterr().err


def test_an_interrupted_build_goes_on_where_it_was(
    tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(steps: int, name: str) -> None:
        if name == cases[1].study:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(cases, DATA, tmp_path / "cache", stop)
    prepared: list[str] = []

    def counted(study, data):
        prepared.append(study.case.study)
        return prepare(study, data)

    monkeypatch.setattr(caches, "prepare", counted)
    build_cache(cases, DATA, tmp_path / "cache")
    assert prepared == [cases[2].study]


def _build(cases: list[Case], folder: Path) -> None:
    build_cache(cases, DATA, folder)


def test_two_processes_may_build_the_same_cache(tmp_path: Path, cases: list[Case]) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_build, args=(cases, tmp_path / "cache")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    (folder,) = (tmp_path / "cache").iterdir()
    assert Cache.open(folder) == build_cache(cases, DATA, tmp_path / "cache")
    assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*"))


def test_what_is_wanted_but_missing_is_named(tmp_path: Path, cases: list[Case]) -> None:
    bare = [dataclasses.replace(case, masks={}) for case in cases]
    with pytest.raises(UserError, match="study sub-strokecase0001: it has no mask lesion; its masks are: none"):
        build_cache(bare, DATA, tmp_path / "cache")
    with pytest.raises(UserError, match="it has no image FLAIR; its images are: ADC, DWI"):
        build_cache(cases, dataclasses.replace(DATA, groups=(("FLAIR",),)), tmp_path / "cache")
    with pytest.raises(UserError, match="no study to prepare"):
        build_cache([], DATA, tmp_path / "cache")
    with pytest.raises(UserError, match="cannot be written"):
        (tmp_path / "file").write_text("")
        build_cache(cases, DATA, tmp_path / "file")
    cache = build_cache(cases, DATA, tmp_path / "cache")
    with pytest.raises(UserError, match="study nobody is not in this cache"):
        cache.study("nobody")


class Gathering:
    """What `job.gather` does, for threads that stand for processes."""

    def __init__(self, count: int) -> None:
        self._count, self._barrier = count, threading.Barrier(count, timeout=60)
        self._values: list[str] = [""] * count

    def of(self, index: int) -> caches.Share:
        def gather(value: object) -> list[object]:
            self._values[index] = json.dumps(value)
            self._barrier.wait()
            values = [json.loads(text) for text in self._values]
            self._barrier.wait()
            return values

        return caches.Share(index, self._count, gather)


def test_processes_of_a_job_prepare_a_share_each_of_the_cache_that_one_makes(
    tmp_path: Path, cases: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = dataclasses.replace(cases[0], study="bad", images={**cases[0].images, "DWI": tmp_path / "nowhere.nii.gz"})
    given = [cases[0], bad, *cases[1:]]
    alone = build_cache(given, DATA, tmp_path / "alone", keep_going=True)
    told = capsys.readouterr().err
    seen: list[list[str]] = [[], []]
    gathering = Gathering(2)

    def build(index: int) -> Cache:
        note = seen[index]
        return build_cache(
            given, DATA, tmp_path / "shared", lambda _, study: note.append(study), keep_going=True,
            share=gathering.of(index),
        )  # fmt: skip

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(build, range(2))
    assert seen == [[given[0].study, given[2].study], ["bad", given[3].study]]
    assert dataclasses.replace(first, folder=alone.folder) == dataclasses.replace(second, folder=alone.folder) == alone
    assert Cache.open(first.folder) == first
    assert "left out: " in told and capsys.readouterr().err == told * 2  # each says it; all but the first are muted
