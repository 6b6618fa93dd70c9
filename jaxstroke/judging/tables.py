"""Scores as a person reads them: cases, means, strata."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxstroke import console
from jaxstroke.metrics import scorecard
from jaxstroke.metrics import strata as sorting
from jaxstroke.metrics.scorecard import COLUMNS, Column

Row = Mapping[str, Any]
SHOWN = ("dice", "precision", "recall", "hd95_mm", "volume_ml", "volume_difference_ml", "lesion_f1")
STRATA_SHOWN = ("dice", "recall", "hd95_mm", "volume_difference_ml", "lesion_f1", "missed_lesion_rate", "undetected")
SLICES_SHOWN = ("slice_dice_empty_1", "slice_dice_empty_0")
LEGEND = "(n): studies where the score is defined, when not all; +- is the standard deviation over studies"


def cell(column: Column, summary: Any) -> str:
    """Of a summary over studies or over folds."""
    if not summary.n:
        return "undefined"
    text = column.text(summary.mean)
    text += "" if math.isnan(summary.sd) else f" +- {column.text(summary.sd)}"
    return text + (f" ({summary.n})" if getattr(summary, "undefined", 0) else "")


def cases(rows: Sequence[Row]) -> None:
    """A line a case; of one case every score there is."""
    console.say()
    if len(rows) == 1:
        (row,) = rows
        lines = [[column.heading, column.text(row[name])] for name, column in COLUMNS.items() if name in row]
        console.table(["score", str(row["case"])], lines)
        return
    lines = [[str(row["case"]), *(COLUMNS[name].text(row[name]) for name in SHOWN)] for row in rows]
    console.table(["case", *(COLUMNS[name].heading for name in SHOWN)], lines)


def systems(lines: Sequence[Mapping[str, Any]], title: str, *, also: Sequence[str] = ()) -> None:
    """A line for each system, and for each annotation where there are several; `also` are scores beside the usual."""
    several = len({line["target"] for line in lines}) > 1
    shown = [name for name in (*SHOWN, *also, "auc") if any(name in line["scores"] for line in lines)]
    cells = []
    for line in lines:
        name = f"{line['system']} ({line['target']})" if several else line["system"]
        scores = line["scores"]
        cells.append([name, *(cell(COLUMNS[score], scores[score]) if score in scores else "" for score in shown)])
    console.table(["system", *(COLUMNS[name].heading for name in shown)], cells, title=title)
    console.say(LEGEND)


def means(rows: Sequence[Row], *, phantom: bool) -> None:
    """Every score: mean and deviation, median, and the 95 % interval of the mean."""
    summaries = scorecard.summarise(rows)
    lines = []
    for name, summary in summaries.items():
        column = COLUMNS[name]
        interval = f"{column.text(summary.low)} to {column.text(summary.high)}"
        middle = column.text(summary.median)
        lines.append([column.heading, cell(column, summary), middle, "" if math.isnan(summary.low) else interval])
    together = scorecard.F1_OF_MEANS
    lines.append([together.heading, together.text(scorecard.f1_of_means(summaries)), "", ""])
    console.say()
    title = f"{len(rows)} cases" + (" [PHANTOM]" if phantom else "")
    console.table(["score", "mean", "median", "95 % interval"], lines, title=title)
    console.say(LEGEND)


def strata(rows: Sequence[Row]) -> None:
    """The means of each stratum; where studies share a patient, also with the slabs of each pooled."""
    _strata(rows, "by stratum")
    if sorting.shared_patients(rows):
        _strata(sorting.by_patient(rows), "by stratum, the slabs of a patient pooled", everything="all patients")


def _strata(rows: Sequence[Row], title: str, *, everything: str = "") -> None:
    lines = []
    for way, grouped in sorting.strata(rows).items():
        for word, members in grouped.items():
            label = word if way != "quality" else f"quality: {word}"
            lines.append([label, str(len(members)), *_means(members)])
    if everything:
        lines.append([everything, str(len(rows)), *_means(rows)])
    if not lines:
        return
    console.say()
    console.table(["stratum", "n", *(COLUMNS[name].heading for name in STRATA_SHOWN)], lines, title=title)


def _means(rows: Sequence[Row]) -> list[str]:
    summaries = scorecard.summarise(rows)
    return [cell(COLUMNS[name], summaries[name]) if name in summaries else "" for name in STRATA_SHOWN]
