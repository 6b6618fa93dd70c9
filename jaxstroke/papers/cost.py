"""What the full scale would take on one card: from the multiply-accumulates that were counted, not measured.

A training step takes about three times the products of its forward pass (`jaxstroke compile` counts 3.0 for MDANet, 3.7
for DME-Net, which computes its walk anew backwards), and a product is two operations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jaxstroke.experiment import Experiment, catalogue
from jaxstroke.papers.declared import Table
from jaxstroke.papers.filled import Filled

CARD, REACHED = "NVIDIA H200", 78e12  # operations a second in a whole step of U-Net (docs/performance.md)
_OF_THE_FORWARD_PASS = 3.0
_OPERATIONS = 2.0


@dataclasses.dataclass(frozen=True)
class Public:
    """Attributes:
    slices: of all studies.
    source: what is known of it.
    tested: share of the studies that are for testing; None: one fold is.
    """

    slices: int
    source: str
    tested: float | None = None


DATA: Mapping[str, Public] = {
    "isles2018": Public(502, "94 studies with 502 slices"),
    "isles2022": Public(250 * 76, "250 studies with 76 slices at most"),
    "two_reader": Public(82 * 23, "82 studies with 20 to 26 slices", tested=31 / 82),
}


def examples(experiment: Experiment) -> float:
    """That a run at full scale trains on, all epochs together."""
    data, training = experiment.data, experiment.training
    public = DATA[data.layout]
    tested = 1 / data.folds if public.tested is None else public.tested
    slices = public.slices * (1 - tested) * (1 - data.validation_fraction)
    if training.slices_per_step:
        return training.epochs * slices / training.slices_per_step * data.batch
    return training.epochs * slices


def hours(experiment: Experiment, gmac: float) -> float:
    """Of one run on the card, `gmac` being those of an example's forward pass."""
    operations = examples(experiment) * gmac * 1e9 * _OF_THE_FORWARD_PASS * _OPERATIONS
    return operations / REACHED / 3600


def section(found: Sequence[tuple[Table, Sequence[Filled]]]) -> list[str]:
    """A part of the page: each table with its networks that were counted; nothing where none was."""
    lines = []
    for table, rows in found:
        own = {row.row.experiment: size for row in rows for tree in row.about if (size := tree.get("size"))}
        trained = {row.row.experiment for row in rows if row.row.experiment}
        if own:
            taken = [hours(catalogue.load(name), size["gmac"]) for name, size in own.items()]
            lines.append(
                f"| `{table.name}` | {len(own)} of {len(trained)} | {table.repeats} | "
                f"{min(taken) * 60:.1f} to {max(taken) * 60:.1f} | {sum(taken) * table.repeats:.2f} |"
            )
    if not lines:
        return []
    known = "; ".join(f"{name} {public.source}" for name, public in DATA.items())
    return [
        "## What the full scale would take on one GPU",
        "",
        "Computed, not measured: three times the multiply-accumulates of the forward pass for each example of each",
        f"epoch, at the {REACHED / 1e12:.0f} TFLOP/s that a whole training step of U-Net reached on an {CARD}",
        "(docs/performance.md). It holds neither compiling nor validation nor what a small batch leaves idle: on so",
        f"many slices, take it for the least. Trained on are the public data: {known}.",
        "",
        "| table | networks counted | runs of each | minutes a run | hours, all of these |",
        "|---|---|---|---|---|",
        *lines,
        "",
    ]
