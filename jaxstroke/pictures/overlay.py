"""A study with its lesion drawn over it: the slices that matter, contours, a scale bar, sides, volumes in mL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke

from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Study
from jaxstroke.metrics.overlap import volume_ml
from jaxstroke.pictures import tiles
from jaxstroke.pictures.head import head_box, volumes
from jaxstroke.pictures.plots import save

MOST_SLICES = 4
_TILE_PIXELS = 190
_GAP = 4
_BAR_MM = 50.0
_INK = {"fontsize": 9, "color": "white", "path_effects": [withStroke(linewidth=2, foreground="black")]}


def overlay(
    study: Study,
    mask: np.ndarray,
    probabilities: np.ndarray,
    path: Path,
    *,
    title: str,
    reference: np.ndarray | None = None,
) -> None:
    """Draws up to four slices with the most lesion: each image with contours, the probability, and what is right."""
    shown = tiles.shown_slices(mask, reference, probabilities, MOST_SLICES)
    images = volumes(study)
    box = head_box(study, [mask] if reference is None else [mask, reference], margin_mm=0)[1:]
    size = tiles.size_of(probabilities[(0, *box)].shape, study.spacing_mm, _TILE_PIXELS)
    rows = [_row(study, images, mask, probabilities, reference, (d, *box), size) for d in shown]
    headings = [*images, "probability", *(["right and wrong"] if reference is not None else [])]
    pixels = tiles.mosaic(rows, gap=_GAP)
    inches = np.array(pixels.shape[1::-1]) / 110
    figure = plt.figure(figsize=(inches[0], inches[1] + 0.62))
    tall = inches[1] / (inches[1] + 0.62)
    axis = figure.add_axes((0, 0, 1, tall))
    axis.imshow(pixels, interpolation="nearest", aspect="auto")
    axis.set_axis_off()
    _label(axis, study, headings, shown, size, box)
    figure.text(0.01, 1 - 0.16 / (inches[1] + 0.62), _told(title, study, mask, reference), va="center", fontsize=10)
    legend: list[tuple[str, tuple[int, int, int]]] = [("predicted, whole line", tiles.PREDICTION)]
    if reference is not None:
        legend += [("reference, dashed line; missed", tiles.REFERENCE), ("agreed", tiles.AGREED)]
    _legend(figure, legend, 1 - 0.42 / (inches[1] + 0.62))
    save(figure, path)


def _row(
    study: Study,
    images: dict[str, np.ndarray],
    mask: np.ndarray,
    probabilities: np.ndarray,
    reference: np.ndarray | None,
    where: tuple[int, slice, slice],
    size: tuple[int, int],
) -> list[np.ndarray]:
    windows = find_layout(study.case.layout).windows
    contours = [] if reference is None else [tiles.reference_contour(reference[where])]
    contours.append(tiles.prediction_contour(mask[where]))
    row = []
    for word, image in images.items():
        low, high = windows.get(word) or value_range(image)
        row.append(tiles.tile(image[where], low, high, size, contours=contours))
    row.append(tiles.tile(probabilities[where], 0, 1, size, colormap="inferno"))
    if reference is not None:
        last = list(images)[-1]
        low, high = windows.get(last) or value_range(images[last])
        grey = tiles.tile(images[last][where], low, high, size)
        row.append(tiles.compared(mask[where], reference[where], grey))
    return row


def value_range(image: np.ndarray) -> tuple[float, float]:
    """Between which values an image without a physical unit is shown: its own, without strays."""
    inside = image[image != 0]
    low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
    return float(low), float(high)


def _label(
    axis: Any, study: Study, headings: list[str], shown: list[int], size: tuple[int, int], box: tuple[slice, slice]
) -> None:
    height, width = size
    for column, heading in enumerate(headings):
        axis.text(column * (width + _GAP) + 4, 4, heading, va="top", **_INK)
    for row, d in enumerate(shown):
        top = row * (height + _GAP)
        axis.text(4, top + height - 4, f"slice {d + 1} of {len(next(iter(study.images.values())))}", **_INK)
    columns = range(*box[1].indices(next(iter(study.images.values())).shape[-1]))
    pixels_per_mm = width / (len(columns) * study.spacing_mm[2])
    right = len(headings) * (width + _GAP) - _GAP - 8
    left = right - _BAR_MM * pixels_per_mm
    bottom = len(shown) * (height + _GAP) - _GAP - 8
    axis.plot([left, right], [bottom, bottom], color="white", linewidth=2.5, solid_capstyle="butt")
    axis.text((left + right) / 2, bottom - 5, f"{_BAR_MM / 10:.0f} cm", ha="center", **_INK)
    if find_layout(study.case.layout).affine_from_zooms:  # the files do not say which side is which
        return
    axis.text(4, height / 2, "R", va="center", fontweight="bold", **_INK)
    axis.text(width - 4, height / 2, "L", va="center", ha="right", fontweight="bold", **_INK)


def _told(title: str, study: Study, mask: np.ndarray, reference: np.ndarray | None) -> str:
    told = f"{title}: predicted {volume_ml(mask, study.spacing_mm):.1f} mL"
    told += "" if reference is None else f", reference {volume_ml(reference, study.spacing_mm):.1f} mL"
    return told + (" (sides as stored)" if find_layout(study.case.layout).affine_from_zooms else "")


def _legend(figure: Any, entries: list[tuple[str, tuple[int, int, int]]], y: float) -> None:
    x, width = 0.01, figure.get_figwidth() * 100
    for name, colour in entries:
        shade = tuple(part / 255 for part in colour)
        figure.text(x, y, "\N{BLACK SQUARE}", color=shade, va="center", fontsize=10)
        figure.text(x + 12 / width, y, name, va="center", fontsize=8)
        x += (22 + 5.6 * len(name)) / width
    figure.text(x + 6 / width, y, "not for medical use", va="center", fontsize=8, color="0.45")
