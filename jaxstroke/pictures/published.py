"""A picture of a table: what a paper prints and what was measured, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from jaxstroke.pictures.plots import save


def beside(
    rows: Mapping[str, tuple[tuple[float, float], Sequence[float]]],
    path: Path,
    *,
    title: str,
    axis: str,
    phantom: bool,
) -> None:
    """For each row the published mean with its deviation, and each run of ours as a dot; a box from four runs on."""
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.45 * len(rows)), layout="constrained")
    for place, ((mean, sd), runs) in enumerate(rows.values()):
        if not math.isnan(mean):
            spread = 0.0 if math.isnan(sd) else sd
            axes.errorbar([mean], [place - 0.15], xerr=[spread], fmt="s", color="tab:gray", capsize=3)
        if len(runs) > 3:
            axes.boxplot([list(runs)], positions=[place + 0.15], widths=0.2, orientation="horizontal")
        axes.plot(list(runs), [place + 0.15] * len(runs), "o", color="tab:blue", alpha=0.7)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{axis}: grey square, published (other data); blue, each run of ours", fontsize=8)
    mark = "\n[ours: phantom data, which say nothing about real stroke]" if phantom else ""
    figure.suptitle(title + mark, fontsize=9)
    save(figure, path)
