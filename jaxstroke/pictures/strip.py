"""A strip: the same slices epoch by epoch, a column each, in one picture that is its own memory.

A new column is put beside those of the picture as it lies there, so nothing is kept but the picture: which slices and
which epochs it shows stands in its text chunk `strip`.  A picture of other slices, a damaged or a removed one is begun
anew.  Never more than `MOST_COLUMNS` columns: when they are full, every second one gives way.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from jaxstroke import files
from jaxstroke.pictures import tiles
from jaxstroke.pictures.overlay import value_range

MOST_COLUMNS = 12
TILE_PIXELS = 80
_GAP = 2
_WIDE = TILE_PIXELS + _GAP
_TITLE, _HEAD = 18, 34  # above the tiles: what it is, then the epochs
_LABELS = 118  # beside them: whose slices these are
_GREYS = 8  # steps of grey that become one: it halves the file
_TEXT = "strip"
TITLES = {True: "PHANTOM data: this says nothing about real stroke", False: "orange: predicted; dashed: reference"}


@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
    """A slice, (H, W) each: what of it never changes."""

    study: str
    index: int
    slices: int
    image: np.ndarray
    reference: np.ndarray


def shown(epochs: Sequence[int]) -> list[int]:
    """Which of the epochs so far have a column: the first, then in even steps, and always the last.

    >>> shown(range(1, 16))
    [1, 3, 5, 7, 9, 11, 13, 15]
    >>> shown(range(1, 27))
    [1, 5, 9, 13, 17, 21, 25, 26]
    """
    step = 1
    while len(found := list(dict.fromkeys([*epochs[::step], *epochs[-1:]]))) > MOST_COLUMNS:
        step *= 2
    return found


def grow(
    path: Path, planes: Sequence[Plane], answers: Sequence[tuple[np.ndarray, np.ndarray]],
    epochs: Sequence[int], *, phantom: bool,
) -> None:  # fmt: skip
    """Adds the last of `epochs`; `answers` are a mask and probabilities (H, W) for each plane."""
    slices = [[plane.study, plane.index] for plane in planes]
    columns = _kept(path, slices)
    tall = [_answered(plane, *answer) for plane, answer in zip(planes, answers, strict=True)]
    columns[epochs[-1]] = _column(f"epoch {epochs[-1]}", tall)
    there = [epoch for epoch in shown(epochs) if epoch in columns]
    first = _column("reference", [_tile(plane) for plane in planes])
    pixels = np.concatenate([_labels(planes), first, *(columns[epoch] for epoch in there)], axis=1)
    picture = Image.fromarray(_headed(pixels, phantom=phantom))
    told = PngImagePlugin.PngInfo()
    told.add_text(_TEXT, json.dumps({"slices": slices, "epochs": there}))
    memory = io.BytesIO()
    picture.save(memory, "png", pnginfo=told, optimize=True)
    files.write_bytes(path, memory.getvalue())


def told(path: Path) -> dict[str, Any]:
    """The slices and the epochs that a strip shows."""
    with Image.open(path) as image:
        return json.loads(image.info[_TEXT])


def _kept(path: Path, slices: Sequence[Sequence[Any]]) -> dict[int, np.ndarray]:
    """The columns of the picture as it lies there, by epoch; none where it cannot be gone on with."""
    if not path.is_file():
        return {}
    try:
        found = told(path)
        epochs = [int(epoch) for epoch in found["epochs"]]
        with Image.open(path) as image:  # its size is known before a pixel is read
            width, height = _LABELS + _WIDE * (1 + len(epochs)), _HEAD + len(slices) * _WIDE
            if found["slices"] != slices or len(epochs) > MOST_COLUMNS or image.size != (width, height):
                return {}
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Image.DecompressionBombError):
        return {}
    lefts = range(_LABELS + _WIDE, width, _WIDE)
    return {epoch: pixels[_TITLE:, left : left + _WIDE] for epoch, left in zip(epochs, lefts, strict=True)}


def _tile(plane: Plane) -> np.ndarray:
    """Grey, with the reference's outline; square, whatever the slice is."""
    low, high = value_range(plane.image)
    contours = [tiles.reference_contour(plane.reference)]
    pixels = tiles.tile(plane.image, low, high, (TILE_PIXELS, TILE_PIXELS), contours=contours)
    return pixels // _GREYS * _GREYS


def _answered(plane: Plane, mask: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    pixels = _tile(plane)
    size = pixels.shape[:2]
    share = 0.6 * np.clip(tiles.enlarged(probabilities, size), 0, 1)[..., None]
    filled = (1 - share) * pixels + share * np.asarray(tiles.PREDICTION, np.float32)
    pixels = filled.astype(np.uint8) // _GREYS * _GREYS
    pixels[tiles.edge(tiles.prediction_contour(mask), size)] = tiles.PREDICTION
    line = tiles.edge(tiles.reference_contour(plane.reference), size)
    pixels[line] = tiles.REFERENCE
    return pixels


def _column(title: str, tall: Sequence[np.ndarray]) -> np.ndarray:
    head = _written(_HEAD - _TITLE, _WIDE, [(2, 2, title)])
    framed = [np.pad(pixels, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255) for pixels in tall]
    return np.concatenate([head, *framed])


def _labels(planes: Sequence[Plane]) -> np.ndarray:
    rows = [(4, _HEAD - _TITLE + number * _WIDE + 28) for number in range(len(planes))]
    lines = [(x, y, plane.study[-20:]) for (x, y), plane in zip(rows, planes, strict=True)]
    lines += [(x, y + 13, f"slice {p.index + 1} of {p.slices}") for (x, y), p in zip(rows, planes, strict=True)]
    return _written(_HEAD - _TITLE + len(planes) * _WIDE, _LABELS, lines)


def _headed(pixels: np.ndarray, *, phantom: bool) -> np.ndarray:
    return np.concatenate([_written(_TITLE, pixels.shape[1], [(4, 3, TITLES[phantom])]), pixels])


def _written(height: int, width: int, lines: Sequence[tuple[int, int, str]]) -> np.ndarray:
    picture = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(10)
    for x, y, text in lines:
        draw.text((x, y), text, fill="black", font=font)
    return np.asarray(picture)
