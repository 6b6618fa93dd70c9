"""Folds put together: every study was held out once, and what that comes to over studies and over folds.

Over studies: the mean and deviation of all studies' scores, each weighing the same.  Over folds: each fold's mean over
its own studies, and the mean and deviation of these.  The two are not the same figure; papers mostly print the second.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, as_json
from jaxstroke.judging import judged
from jaxstroke.metrics import scorecard
from jaxstroke.runs import place

SPLIT = "test"
_RECORD = "crossval.json"
_OF_SUMMARY = "f1_of_means"
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Fold:
    number: int
    path: Path

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation" / SPLIT


@dataclasses.dataclass(frozen=True)
class OverFolds:
    """The folds' means: their mean, sample standard deviation, and how many folds have one."""

    mean: float
    sd: float
    n: int


def is_done(fold: Fold, experiment: Experiment) -> bool:
    """Whether the fold was trained to its end and evaluated as it is now."""
    try:
        record = files.read_sealed(fold.path / _RECORD)
    except UserError:
        return False
    whole = all((fold.evaluation / name).is_file() for name in ("scores.csv", "summary.json"))
    now = _record(fold, experiment)
    return whole and _as_trained(record) == experiment and {**record, "experiment": now["experiment"]} == now


def _as_trained(record: Any) -> Experiment | None:
    """A field that is younger than the record has its default there."""
    try:
        return as_json.from_tree(Experiment, record["experiment"], "")
    except (UserError, TypeError, KeyError):  # of fields that are no more, or no record
        return None


def mark_done(fold: Fold, experiment: Experiment) -> None:
    files.write_sealed(fold.path / _RECORD, _record(fold, experiment))


def _record(fold: Fold, experiment: Experiment) -> dict[str, Any]:
    return {
        "experiment": files.as_read(dataclasses.asdict(experiment)),
        "checkpoints": place.state_of(fold.path),
        "scores": files.sha256(fold.evaluation / "scores.csv") if (fold.evaluation / "scores.csv").is_file() else "",
    }


def rows_of(folds: Sequence[Fold]) -> list[Row]:
    """Every row of every fold with its fold; a study that two folds held out, or another data set, is an error."""
    rows: list[Row] = []
    held_out: dict[str, Fold] = {}
    first = _about(folds[0])
    for fold in folds:
        about = _about(fold)
        if about["data_fingerprint"] != first["data_fingerprint"]:
            raise UserError(f"{fold.path}: this fold was trained on other data than {folds[0].path}; train it anew")
        own = [row for one in judged.read(fold.path, SPLIT) for row in one.rows.values()]
        for study in dict.fromkeys(row["study"] for row in own):
            if study in held_out:
                raise UserError(
                    f"{fold.path}: {study} was held out in {held_out[study].path} too: these are not the folds of one "
                    "cross-validation (where a data set comes with its own test studies there is nothing to fold)"
                )
            held_out[study] = fold
        missing = sorted(set(about["split"]["test"]) - {row["study"] for row in own})
        if missing:
            raise UserError(f"{fold.path}: its evaluation lacks {missing[0]}; evaluate it again")
        rows += [{"fold": fold.number, **row} for row in own]
    return rows


def check_complete(folds: Sequence[Fold], rows: Sequence[Row]) -> None:
    """Every study was held out by one of the folds."""
    split = _about(folds[0])["split"]
    every = {study for part in ("train", "validation", "test") for study in split[part]}
    left = sorted(every - {row["study"] for row in rows})
    if left:
        raise UserError(f"{folds[0].path}: no fold held out {left[0]} ({len(left)} such studies): a fold is missing")


def summaries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each annotation and system: its scores over studies and over folds."""
    lines = []
    for target, system in dict.fromkeys((row["target"], row["system"]) for row in rows):
        own = [row for row in rows if (row["target"], row["system"]) == (target, system)]
        by_fold = {
            fold: scorecard.summarise([row for row in own if row["fold"] == fold])
            for fold in dict.fromkeys(row["fold"] for row in own)
        }
        over_studies = scorecard.summarise(own)
        means = {
            name: {fold: summary[name].mean for fold, summary in by_fold.items() if name in summary}
            for name in over_studies
        }
        means[_OF_SUMMARY] = {fold: scorecard.f1_of_means(summary) for fold, summary in by_fold.items()}
        lines.append(
            {
                "target": target,
                "system": system,
                "over_studies": over_studies,
                "over_folds": {name: _over_folds(list(values.values())) for name, values in means.items()},
                "fold_means": means,
            }
        )
    return lines


def _over_folds(means: Sequence[float]) -> OverFolds:
    defined = np.asarray([mean for mean in means if not math.isnan(mean)])
    return OverFolds(
        float(defined.mean()) if defined.size else math.nan,
        float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        defined.size,
    )


def _about(fold: Fold) -> Mapping[str, Any]:
    about = files.read_sealed(fold.path / "about.json")
    if not isinstance(about.get("split"), dict) or "data_fingerprint" not in about:
        raise UserError(f"{fold.path / 'about.json'}: it is damaged (split or data_fingerprint is missing)")
    return about
