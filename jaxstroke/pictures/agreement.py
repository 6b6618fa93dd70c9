"""Pictures of systems side by side: paired differences, volumes after Bland and Altman, kappa."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxstroke import files
from jaxstroke.pictures.plots import PHANTOM

_ACROSS = 3


def paired_differences(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], float, float, float]]], path: Path, *, phantom: bool
) -> None:
    """A panel a score: for each comparison the studies' differences, their mean and its 95 % interval."""
    figure, axes = _grid(len(panels), height=1.2 + 0.45 * max(len(found) for found in panels.values()))
    for axis, (title, found) in zip(axes, panels.items(), strict=False):
        for place, (values, mean, low, high) in enumerate(found.values()):
            spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(len(values))
            axis.scatter(values, place + spread, s=8, color="tab:gray", alpha=0.6)
            if not math.isnan(low):
                axis.plot([low, high], [place, place], color="tab:blue", linewidth=3)
            axis.plot([mean], [place], "D", color="black", markersize=5)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(found)), list(found), fontsize=7)
        axis.set_ylim(len(found) - 0.5, -0.5)
        axis.set_title(title, fontsize=9)
    _save(figure, path, "paired differences, a dot a study; bar: 95 % interval of the mean", phantom=phantom)


def bland_altman(
    panels: Mapping[str, tuple[Sequence[float], Sequence[float], float, float, float]],
    path: Path,
    *,
    phantom: bool,
    title: str = "volumes",
    axes_told: tuple[str, str] = ("mean of both (mL)", "predicted - reference (mL)"),
) -> None:
    """A panel a system: the first minus the second value over their mean, with bias and limits of agreement."""
    figure, axes = _grid(len(panels), height=3.0)
    for axis, (heading, (first, second, bias, lower, upper)) in zip(axes, panels.items(), strict=False):
        one, other = np.asarray(first), np.asarray(second)
        axis.scatter((one + other) / 2, one - other, s=10, color="tab:blue", alpha=0.7)
        for value, style in ((bias, "-"), (lower, "--"), (upper, "--")):
            if not math.isnan(value):
                axis.axhline(value, color="black", linestyle=style, linewidth=0.9)
                axis.annotate(f"{value:.3g}", (1, value), xycoords=("axes fraction", "data"), fontsize=7, ha="right")
        axis.set_title(heading, fontsize=9)
        axis.set_xlabel(axes_told[0], fontsize=8)
        axis.set_ylabel(axes_told[1], fontsize=8)
    _save(figure, path, f"{title}: bias and limits of agreement (mean -/+ 1.96 sd)", phantom=phantom)


def kappas(found: Mapping[str, Sequence[float]], path: Path, *, phantom: bool, title: str = "agreement") -> None:
    """Kappa of each pair over studies."""
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.45 * len(found)), layout="constrained")
    for place, values in enumerate(found.values()):
        defined = [value for value in values if not math.isnan(value)]
        if defined:
            axes.boxplot(defined, positions=[place], widths=0.5, orientation="horizontal", showfliers=True)
    axes.set_yticks(range(len(found)), list(found), fontsize=8)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("Cohen's kappa over voxels, a value a study")
    _save(figure, path, title, phantom=phantom)


def _grid(count: int, *, height: float) -> tuple[Figure, Sequence[Axes]]:
    across = min(count, _ACROSS)
    down = math.ceil(count / across)
    figure, axes = plt.subplots(
        down, across, figsize=(4.2 * across, height * down), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, list(axes.flat)


def _save(figure: Figure, path: Path, title: str, *, phantom: bool) -> None:
    lines = [textwrap.fill(title, int(12 * figure.get_figwidth()))]  # no wider than the picture
    figure.suptitle("\n".join([*lines, *([PHANTOM] if phantom else [])]), fontsize=9)
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=110)
    plt.close(figure)
    files.write_bytes(path, memory.getvalue())
