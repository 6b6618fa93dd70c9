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

PHANTOM = "[phantom data: this says nothing about real stroke]"


def curves(rows: Sequence[dict[str, Any]], path: Path, *, phantom: bool) -> None:
    """Draws the journal: losses on the left, validation Dice and HD95 on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    left.plot(epochs, _column(rows, "loss"), label="training")
    left.plot(epochs, _column(rows, "validation_loss"), label="validation")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend()
    right.plot(epochs, _column(rows, "dice"), color="tab:blue", label="Dice")
    right.set(xlabel="epoch", ylabel="validation Dice", ylim=(0, 1))
    other = right.twinx()
    other.plot(epochs, _column(rows, "hd95_mm"), color="tab:gray", linestyle="--")
    other.set_ylabel("validation HD95, mm (dashed)")
    if phantom:
        figure.suptitle(PHANTOM)
    save(figure, path)


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [np.nan if row.get(name) is None else row[name] for row in rows]


def save(figure: Figure, path: Path) -> None:
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=110)
    plt.close(figure)
    files.write_bytes(path, memory.getvalue())
