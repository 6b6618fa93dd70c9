"""What a network looks at, as the papers draw it: maps beside the images of studies, and one map along the slices."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Study
from jaxstroke.pictures import tiles
from jaxstroke.pictures.head import head_box, volumes
from jaxstroke.pictures.overlay import value_range
from jaxstroke.pictures.plots import PHANTOM, save

_TILE_PIXELS = 150  # at which lines are two pixels wide; no fewer are drawn on
_MOST_SLICES = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
    """A study, its reference, what was predicted, and what the network showed by name: (D, H, W) each."""

    study: Study
    reference: np.ndarray
    mask: np.ndarray
    maps: Mapping[str, np.ndarray]


def beside(looked: Sequence[Looked], path: Path, *, title: str, phantom: bool) -> None:
    """A row a study: the slice with most lesion with both outlines, and each map, in its own range over that slice."""
    names = list(looked[0].maps)
    figure, axes = _grid(len(looked), 1 + len(names))
    for row, one in zip(axes, looked, strict=True):
        (d,) = tiles.shown_slices(one.mask, one.reference, next(iter(one.maps.values())), 1)
        plane = (d, *_box(one))
        row[0].imshow(_image(one, plane))
        row[0].set_ylabel(f"{one.study.case.study[-20:]}\nslice {d + 1} of {len(one.mask)}", fontsize=7)
        for axis, name in zip(row[1:], names, strict=True):
            axis.imshow(_heat(one, one.maps[name], plane))
    for axis, heading in zip(axes[0], [_last(looked[0]), *names], strict=True):
        axis.set_title(heading, fontsize=7)
    told = "orange: predicted; blue, dashed: reference; maps: each from its lowest (dark) to its highest value"
    _finish(figure, path, title, told, phantom=phantom)


def along_slices(looked: Looked, path: Path, *, title: str, phantom: bool) -> None:
    """The slices in order with the map below each, and its mean in the head and in the reference slice by slice."""
    ((name, values),) = looked.maps.items()
    depth = len(values)
    shown = np.unique(np.linspace(0, depth - 1, min(depth, _MOST_SLICES)).round().astype(int)).tolist()
    box = _box(looked)
    low, high = float(values[:, *box].min()), float(values[:, *box].max())
    figure, axes = _grid(2, len(shown), more_below=1.6)
    for axis, below, d in zip(*axes, shown, strict=True):
        axis.imshow(_image(looked, (d, *box)))
        axis.set_title(f"slice {d + 1}", fontsize=7)
        below.imshow(_heat(looked, values, (d, *box), low, high))
    axes[0][0].set_ylabel(_last(looked), fontsize=7)
    axes[1][0].set_ylabel(name, fontsize=7)
    tall = figure.get_figheight()
    plot = figure.add_axes((0.09, 0.45 / tall, 0.9, 0.95 / tall))
    plot.plot(range(1, depth + 1), values[:, *box].mean(axis=(1, 2)), "o-", color="tab:gray", label="whole slice")
    within = [values[d][looked.reference[d] > 0] for d in range(depth)]
    plot.plot(range(1, depth + 1), [one.mean() if one.size else np.nan for one in within], "s--", color="tab:blue",
              label="inside the reference")  # fmt: skip
    plot.set_xticks(range(1, depth + 1, max(1, depth // 10)))
    plot.tick_params(labelsize=7)
    plot.set_xlabel("slice", fontsize=7)
    plot.set_ylabel(f"mean {name}", fontsize=7)
    plot.legend(fontsize=6)
    told = f"{looked.study.case.study}; maps from {low:.2f} (dark) to {high:.2f} (bright)"
    _finish(figure, path, title, told, phantom=phantom)


def _grid(rows: int, columns: int, *, more_below: float = 0.0) -> tuple[Any, Any]:
    """Axes without ticks; `more_below` inches are free under them."""
    tall = 0.85 + 1.45 * rows + more_below
    figure, axes = plt.subplots(rows, columns, figsize=(max(5.2, 1.3 * columns + 0.5), tall), squeeze=False)
    figure.subplots_adjust(0.09, 0.01 + more_below / tall, 0.99, 1 - 0.78 / tall, 0.04, 0.04)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        for side in axis.spines.values():
            side.set_visible(False)
    return figure, axes


def _box(looked: Looked) -> tuple[slice, slice]:
    return head_box(looked.study, [looked.mask, looked.reference], margin_mm=0)[1:]


def _last(looked: Looked) -> str:
    return list(looked.study.images)[-1]


def _image(looked: Looked, plane: tuple[int, slice, slice]) -> np.ndarray:
    word = _last(looked)
    image = volumes(looked.study)[word]
    low, high = find_layout(looked.study.case.layout).windows.get(word) or value_range(image)
    contours = [tiles.reference_contour(looked.reference[plane]), tiles.prediction_contour(looked.mask[plane])]
    return tiles.tile(image[plane], low, high, _size(looked, plane), contours=contours)


def _heat(
    looked: Looked, values: np.ndarray, plane: tuple[int, slice, slice], low: float | None = None,
    high: float | None = None,
) -> np.ndarray:  # fmt: skip
    shown = values[plane]
    low, high = (float(shown.min()) if low is None else low), (float(shown.max()) if high is None else high)
    return tiles.tile(shown, low, high, _size(looked, plane), colormap="inferno")


def _size(looked: Looked, plane: tuple[int, slice, slice]) -> tuple[int, int]:
    return tiles.size_of(looked.mask[plane].shape, looked.study.spacing_mm, _TILE_PIXELS)


def _finish(figure: Any, path: Path, title: str, told: str, *, phantom: bool) -> None:
    wide = int(14 * figure.get_figwidth())  # letters
    lines = [textwrap.fill(line, wide) for line in (title, PHANTOM if phantom else "", told) if line]
    figure.suptitle("\n".join(lines), fontsize=7, y=0.995, va="top")
    save(figure, path)
