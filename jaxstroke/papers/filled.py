"""A table with what was measured in it: means and deviations, how many runs stand behind them, and a paired test."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke.judging import folds
from jaxstroke.metrics import statistics
from jaxstroke.metrics.strata import strata, volume_stratum
from jaxstroke.papers import plan
from jaxstroke.papers.declared import OF_A_RUN, SIZES, Row, Table

NOT_MEASURED = "not measured"
_TESTED = "dice"
_OF_A_STUDY = ("held", "called_unlike")  # 0 or 1, and no scores of a mask


@dataclasses.dataclass(frozen=True)
class Filled:
    """A row with what was measured of it.

    Attributes:
      means: by score, mean and deviation as the paper takes them; nothing where nothing is measured.
      by_run: of the table's first score, the mean of each run, for the picture.
      studies: Dice by study, the mean of the runs that judged it.
      runs, planned: how many are measured, of how many.
      missing: a line for each run that is not.
      p: of Wilcoxon's signed ranks against the table's own row, adjusted by Holm; NaN where it is not tested.
      difference: from the table's own row, the mean over `pairs`; NaN where it is not tested.
      pairs: the studies in which both rows have a defined Dice.
      by_quality: Dice of each image quality, mean and how many studies; nothing where the data do not tell it.
    """

    row: Row
    means: Mapping[str, tuple[float, float]]
    by_run: tuple[float, ...]
    studies: Mapping[str, float]
    runs: int
    planned: int
    missing: tuple[str, ...]
    about: tuple[Mapping[str, Any], ...]
    p: float = math.nan
    difference: float = math.nan
    pairs: int = 0
    by_quality: Mapping[str, tuple[float, int]] = dataclasses.field(default_factory=dict)

    @property
    def stars(self) -> str:
        return "" if math.isnan(self.p) else "*" * sum(self.p < limit for limit in (0.05, 0.01, 0.001))


def filled(table: Table, folder: Path, **how: Any) -> list[Filled]:
    return _tested(table, [_row(table, row, folder, plan.planned(table, row, **how)) for row in table.rows])


def _row(table: Table, row: Row, folder: Path, runs: Sequence[plan.Planned]) -> Filled:
    trees = [plan.kept(folder, one) for one in runs]
    missing = tuple(
        f"{one.mark}: {tree.get('failed', NOT_MEASURED)}"
        for one, tree in zip(runs, trees, strict=True)
        if not plan.is_measured(tree)
    )
    about = tuple(tree for tree in trees if plan.is_measured(tree))
    rows = [
        {**{name: math.nan if value is None else value for name, value in line.items()}, "fold": number}
        for number, tree in enumerate(trees)
        if plan.is_measured(tree)
        for line in _own(tree["rows"], row)
    ]
    lines = folds.summaries(rows)
    line = lines[0] if lines else None
    means = {} if line is None else {name: (one.mean, one.sd) for name, one in line[table.over].items()}
    if line is not None:  # which only a mean over folds has
        one = line["over_folds"]["f1_of_means"]
        means["f1_of_means"] = (one.mean, one.sd)
    means |= {score: _over_runs(rows, score) for score in _OF_A_STUDY if any(score in one for one in rows)}
    means |= _of_runs(about)
    by_study: dict[str, list[float]] = {}
    for one in rows if line is not None and _TESTED in line["fold_means"] else ():
        by_study.setdefault(one["study"], []).append(one[_TESTED])
    return Filled(
        row,
        means,
        tuple(_by_run(rows, table.columns[0].score)),
        {study: sum(values) / len(values) for study, values in by_study.items()},
        len(about),
        len(runs),
        missing,
        about,
        by_quality=_by_quality(rows),
    )


def _by_quality(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    """A study that several runs judged counts once, with their mean."""
    found = {}
    for word, own in strata(rows).get("quality", {}).items():
        by_study: dict[str, list[float]] = {}
        for one in own:
            by_study.setdefault(one["study"], []).append(one.get(_TESTED, math.nan))
        means = [sum(values) / len(values) for values in by_study.values()]
        defined = [mean for mean in means if not math.isnan(mean)]
        if defined:
            found[word] = (sum(defined) / len(defined), len(defined))
    return found


def _by_run(rows: Sequence[Mapping[str, Any]], score: str) -> list[float]:
    """Its mean over the studies of each run."""
    found: dict[int, list[float]] = {}
    for one in rows:
        if not math.isnan(one.get(score, math.nan)):
            found.setdefault(one["fold"], []).append(one[score])
    return [sum(values) / len(values) for values in found.values()]


def _of_runs(about: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """What is kept of a run beside its scores: the size of its network, which all share, and what it takes."""
    sizes = next((tree["size"] for tree in about if tree.get("size")), {})
    took = {score: [tree[score] for tree in about if tree.get(score) is not None] for score in OF_A_RUN}
    return {
        **{score: (sizes[score], math.nan) for score in SIZES if score in sizes},
        **{score: _mean_and_sd(values) for score, values in took.items() if values},
    }


def _over_runs(rows: Sequence[Mapping[str, Any]], score: str) -> tuple[float, float]:
    return _mean_and_sd(_by_run(rows, score))


def _mean_and_sd(means: Sequence[float]) -> tuple[float, float]:
    middle = sum(means) / len(means)
    sd = math.sqrt(sum((one - middle) ** 2 for one in means) / (len(means) - 1)) if len(means) > 1 else math.nan
    return middle, sd


def _own(lines: Sequence[Mapping[str, Any]], row: Row) -> list[Mapping[str, Any]]:
    """The rows of the trained system (the first of the file), of the row's annotation and stratum."""
    system, target = lines[0]["system"], row.target or lines[0]["target"]
    own = [line for line in lines if line["system"] == system and line["target"] == target]
    return [line for line in own if not row.stratum or volume_stratum(line["reference_volume_ml"]) == row.stratum]


def _tested(table: Table, rows: Sequence[Filled]) -> list[Filled]:
    """Each row whose runs are all there against the table's own row, on the same studies."""
    base = next(one for one in rows if one.row.name == table.against)
    tested = [
        one for one in rows
        if one is not base and one.studies and one.studies.keys() == base.studies.keys()
        and not one.missing and not base.missing
    ]  # fmt: skip
    order = sorted(base.studies)
    values = [[one.studies[study] for study in order] for one in (base, *tested)]
    found = [statistics.wilcoxon_signed_rank(own, values[0]) for own in values[1:]]
    adjusted = statistics.holm([one.p for one in found]) if found else []
    apart = [statistics.paired_bootstrap(own, values[0]) for own in values[1:]]
    told = {
        one.row.name: {"p": float(p), "difference": each.mean, "pairs": each.n}
        for one, p, each in zip(tested, adjusted, apart, strict=True)
    }
    return [dataclasses.replace(one, **told.get(one.row.name, {})) for one in rows]
