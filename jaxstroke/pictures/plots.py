"""Pictures as PNG files, written whole or not at all. Phantoms are named as such in the picture itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from jaxstroke import files
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Study


def curves(rows: Sequence[dict[str, Any]], path: Path, *, phantom: bool) -> None:
    """Draws the journal: losses on the left, validation Dice and HD95 on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    left.plot(epochs, _column(rows, "loss"), label="training")
    left.plot(epochs, _column(rows, "validation_loss"), label="validation")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend()
    right.plot(epochs, _column(rows, "dice"), color="tab:green", label="Dice")
    right.set(xlabel="epoch", ylabel="validation Dice", ylim=(0, 1))
    other = right.twinx()
    other.plot(epochs, _column(rows, "hd95_mm"), color="tab:gray", linestyle="--")
    other.set_ylabel("validation HD95, mm (dashed)")
    if phantom:
        figure.suptitle("phantom data: these figures say nothing about real stroke")
    _save(figure, path)


def overlay(
    study: Study,
    mask: np.ndarray,
    probabilities: np.ndarray,
    path: Path,
    *,
    title: str,
    reference: np.ndarray | None = None,
) -> None:
    """Draws up to four slices with the most lesion: each image, the mask's outline (red), the reference's (green)."""
    areas = mask.sum(axis=(1, 2)) if mask.any() else probabilities.sum(axis=(1, 2))
    shown = np.sort(np.argsort(areas)[::-1][:4])
    words = [word for word, image in study.images.items() if image.ndim == 3]
    windows = find_layout(study.case.layout).windows
    figure, axes = plt.subplots(
        len(shown),
        len(words) + 1,
        figsize=(2.2 * (len(words) + 1), 2.3 * len(shown)),
        squeeze=False,
        layout="constrained",
    )
    for row, d in zip(axes, shown, strict=True):
        for axis, word in zip(row, words, strict=False):
            image = study.images[word]
            low, high = windows.get(word) or _range(image)
            axis.imshow(image[d], cmap="gray", vmin=low, vmax=high)
            _outline(axis, mask[d], "red")
            if reference is not None:
                _outline(axis, reference[d], "lime")
            axis.set_title(word, fontsize=8)
        row[-1].imshow(probabilities[d], cmap="magma", vmin=0, vmax=1)
        row[-1].set_title(f"probability, slice {d + 1}", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    legend = "red: predicted" + ("" if reference is None else ", green: reference")
    figure.suptitle(f"{title} ({legend}); not for medical use", fontsize=9)
    _save(figure, path)


def _range(image: np.ndarray) -> tuple[float, float]:
    inside = image[image != 0]
    low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
    return float(low), float(high)


def _outline(axis: Any, mask: np.ndarray, colour: str) -> None:
    if mask.any():
        axis.contour(mask, levels=[0.5], colors=[colour], linewidths=0.8)


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [np.nan if row.get(name) is None else row[name] for row in rows]


def _save(figure: Figure, path: Path) -> None:
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=110)
    plt.close(figure)
    files.write_bytes(path, memory.getvalue())
