"""The strip of validation slices: it grows by a column an epoch, stays small, and no training is another one for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxstroke.data.cache.format import Cache, CachedStudy
from jaxstroke.data.prepare import Inverse
from jaxstroke.pictures import strip, tiles
from jaxstroke.training.strip import Strip, chosen

SIDE = 40


def plane(study: str = "case_1", seed: int = 0) -> strip.Plane:
    rng = np.random.default_rng(seed)
    reference = np.zeros((SIDE, SIDE), bool)
    reference[10:20, 5:15] = True
    return strip.Plane(study, 3, 8, rng.normal(size=(SIDE, SIDE)).astype(np.float32), reference)


def answer(row: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[row : row + 8, 22:34] = True
    return mask, mask * np.float32(0.9)


def column(pixels: np.ndarray, number: int) -> np.ndarray:
    """The tiles of the epochs, counted from 0, without their headings."""
    left = pixels.shape[1] - strip._WIDE * (pixels.shape[1] // strip._WIDE - 2 - number)  # pyright: ignore
    return pixels[34:, left : left + strip.TILE_PIXELS]


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def grown(path: Path, count: int, planes: list[strip.Plane], first: int = 1) -> None:
    for epoch in range(first, count + 1):
        answers = [answer(epoch % 30)] * len(planes)
        strip.grow(path, planes, answers, list(range(1, epoch + 1)), phantom=True)


def test_a_column_an_epoch_and_what_stood_there_stays(tmp_path: Path) -> None:
    path, planes = tmp_path / "strip.png", [plane(), plane("case_2", 1)]
    widths, befores = [], []
    for epoch in (1, 2, 3):
        grown(path, epoch, planes, first=epoch)
        pixels = pixels_of(path)
        widths.append(pixels.shape[1])
        for before in befores:
            np.testing.assert_array_equal(pixels[strip._TITLE :, : before.shape[1]], before[strip._TITLE :])  # pyright: ignore
        befores.append(pixels)
    assert np.diff(widths).tolist() == [strip._WIDE] * 2  # pyright: ignore[reportPrivateUsage]
    assert strip.told(path) == {"slices": [["case_1", 3], ["case_2", 3]], "epochs": [1, 2, 3]}
    assert not list(tmp_path.glob(".*")), "nothing half-written lies beside it"


def test_the_answer_lies_where_it_was_given(tmp_path: Path) -> None:
    """The outline of rows 5 to 13 and columns 22 to 34 of 40, in a tile of 80: rows 10 to 26, columns 44 to 68."""
    grown(tmp_path / "strip.png", 5, [plane()])
    last = pixels_of(tmp_path / "strip.png")[34 : 34 + strip.TILE_PIXELS, -strip._WIDE : -strip._GAP]  # pyright: ignore
    rows, columns = np.nonzero((last == tiles.PREDICTION).all(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 25, 44, 67)
    assert (last == tiles.REFERENCE).all(axis=-1).sum() > 20


@pytest.mark.slow
def test_it_stays_small_however_long_a_run_is(tmp_path: Path) -> None:
    """Noise is what a PNG can do least about."""
    path, planes = tmp_path / "strip.png", [plane(f"case_{one}", one) for one in range(4)]
    sizes = []
    for epoch in range(1, 28):
        grown(path, epoch, planes, first=epoch)
        sizes.append((len(strip.told(path)["epochs"]), path.stat().st_size))
        assert strip.told(path)["epochs"] == strip.shown(range(1, epoch + 1)), "every column that is wanted was kept"
    assert max(count for count, _ in sizes) == strip.MOST_COLUMNS and max(size for _, size in sizes) < 400_000


def test_which_epochs_have_a_column() -> None:
    before: list[int] = []
    for count in range(1, 300):
        found = strip.shown([5 * number for number in range(1, count + 1)])
        assert found[0] == 5 and found[-1] == 5 * count and len(found) <= strip.MOST_COLUMNS
        assert set(found[:-1]) <= set(before), "nothing that gave way is wanted again"
        before = found


def test_gone_on_with_from_an_earlier_epoch_it_is_that_of_a_run_never_stopped(tmp_path: Path) -> None:
    """A process that was killed after the strip and before its checkpoint validates that epoch again."""
    planes = [plane()]
    grown(tmp_path / "whole.png", 6, planes)
    grown(tmp_path / "killed.png", 5, planes)
    grown(tmp_path / "killed.png", 6, planes, first=4)
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "killed.png").read_bytes()


@pytest.mark.parametrize("how", ["other slices", "cut short", "no picture", "another picture"])
def test_what_cannot_be_gone_on_with_is_begun_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "strip.png"
    grown(path, 3, [plane()])
    planes = [plane("case_9")] if how == "other slices" else [plane()]
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:4000])
    elif how == "no picture":
        path.write_bytes(b"nothing")
    elif how == "another picture":
        Image.new("RGB", (20, 20)).save(path)
    grown(path, 4, planes, first=4)
    assert strip.told(path)["epochs"] == [4]


def cached(name: str, *lesion_pixels: int) -> CachedStudy:
    inverse = Inverse(**{field.name: () for field in dataclasses.fields(Inverse)})
    shape = (len(lesion_pixels), 8, 8)
    return CachedStudy(name, name, shape, lesion_pixels, (1.0, 1.0, 1.0), inverse, {})


@pytest.mark.parametrize(
    "studies, expected",
    [
        ([("a", 0, 5, 9), ("b", 0, 0), ("c", 3, 1), ("d", 2), ("e", 4)], [("a", 2), ("c", 0), ("d", 0), ("e", 0)]),
        ([("a", 0, 5, 9), ("c", 3, 1)], [("a", 2), ("c", 0), ("a", 1), ("c", 1)]),
        ([("a", 0, 0, 0), ("b", 0, 0)], [("a", 1), ("b", 1)]),
        ([], []),
    ],
)
def test_a_few_slices_with_lesion_of_different_studies(studies: list, expected: list) -> None:
    cache = Cache(Path(), "", {}, tuple(cached(name, *pixels) for name, *pixels in studies))
    assert chosen(cache, [name for name, *_ in studies]) == expected


def test_without_validation_studies_there_is_none(tmp_path: Path) -> None:
    Strip(tmp_path, Cache(Path(), "", {}, ()), [], phantom=True).grow([1])
    assert not list(tmp_path.iterdir())


def test_a_phantom_is_marked_and_real_studies_are_not(tmp_path: Path) -> None:
    heads: Any = []
    for phantom in (True, False):
        strip.grow(tmp_path / "strip.png", [plane()], [answer(3)], [1], phantom=phantom)
        heads.append(pixels_of(tmp_path / "strip.png")[: strip._TITLE])  # pyright: ignore[reportPrivateUsage]
    written = [strip._written(strip._TITLE, heads[0].shape[1], [(4, 3, text)]) for text in strip.TITLES.values()]  # pyright: ignore
    np.testing.assert_array_equal(heads, written)
    assert "PHANTOM" in strip.TITLES[True] and "PHANTOM" not in strip.TITLES[False]
