"""What was judged, read back from disk: scores of a run's evaluation, of folds put together, or of masks in files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke import command
from jaxstroke.errors import UserError
from jaxstroke.files.tables import read_rows
from jaxstroke.judging.written import CSV
from jaxstroke.metrics import strata
from jaxstroke.metrics.rules import DEFAULT
from jaxstroke.metrics.scorecard import COLUMNS

Unit = tuple[str, str]  # study (or patient) and annotation
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Judged:
    """One system's scores: a row for each study and annotation."""

    name: str
    system: str  # its name in its own file, which another run's system may share
    path: Path
    phantom: bool
    rules: str
    rows: Mapping[Unit, Row]

    def values(self, score: str, units: Sequence[Unit]) -> list[float]:
        return [self.rows[unit].get(score, math.nan) for unit in units]


def read(path: Path, split: str) -> list[Judged]:
    """The systems that were judged there, in the order of the file."""
    file = _scores_file(path, split)
    rows = _rows(file)
    systems = list(dict.fromkeys(row["system"] for row in rows))
    found = []
    for system in systems:
        own = [row for row in rows if row["system"] == system]
        units = [(row["study"], row["target"]) for row in own]
        if len(set(units)) < len(units):
            raise UserError(f"{file}: {units[0][0]} was judged twice by {system}; score it again")
        name = system or path.absolute().name
        phantom = own[0]["data"] == "phantom"
        found.append(Judged(name, system, path, phantom, own[0]["rules"], dict(zip(units, own, strict=True))))
    return found


def together(paths: Sequence[Path], split: str) -> list[Judged]:
    """The systems of several runs, each once; runs that were not judged on the same studies are refused."""
    found: list[Judged] = []
    for path in paths:
        for one in read(path, split):
            same_name = [other for other in found if other.name == one.name]
            if any(_same(one, other) for other in same_name):
                continue  # a threshold rule answers the same whichever run it was judged beside
            found.append(dataclasses.replace(one, name=f"{one.name} ({path})") if same_name else one)
    for other in found[1:]:
        _check_same_studies(found[0], other)
    return found


def by_patient(one: Judged) -> Judged:
    """A row for each patient: slabs as one study, and what cannot be had from sums as the mean of the slabs."""
    rows: dict[Unit, Row] = {}
    for target in dict.fromkeys(target for _, target in one.rows):
        own = [row for (_, other), row in one.rows.items() if other == target]
        for pooled in strata.by_patient(own):
            slabs = [row for row in own if row["patient"] == pooled["patient"]]
            means = {name: _mean([row[name] for row in slabs]) for name in COLUMNS if all(name in row for row in slabs)}
            rows[pooled["patient"], target] = {**means, **pooled}
    return dataclasses.replace(one, rows=rows)


def shared_patients(one: Judged) -> bool:
    return strata.shared_patients(list(one.rows.values()))


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _scores_file(path: Path, split: str) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: there is no such run folder or file of scores")
    for file in (path / "evaluation" / split / CSV, path / CSV):
        if file.is_file():
            return file
    again = f"{command.text('evaluate')} {path}" + ("" if split == "test" else f" --split {split}")
    raise UserError(f"{path}: it was not evaluated on {split} studies yet; first: {again}")


def _rows(file: Path) -> list[Row]:
    content = read_rows(file)
    if not content or not {"study", "patient", "dice"} <= content[0].keys():
        raise UserError(f"{file}: it holds no scores; evaluate or score again")
    try:
        return [_row(words) for words in content]
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: it is damaged ({error}); evaluate or score again") from None


def _row(words: Mapping[str, str]) -> Row:
    about = {name: words[name] for name in ("data", "study", "patient")}
    about |= {name: words.get(name) or "" for name in ("target", "system")}
    about |= {"quality": words["quality"]} if words.get("quality") else {}
    about["rules"] = words.get("rules") or DEFAULT.name
    scores = {name: float(words[name]) if words[name] else math.nan for name in COLUMNS if name in words}
    return {**about, **scores}


def _same(one: Judged, other: Judged) -> bool:
    return one.rows.keys() == other.rows.keys() and all(
        _equal(row.get(name, math.nan), other.rows[unit].get(name, math.nan))
        for unit, row in one.rows.items()
        for name in COLUMNS
    )


def _equal(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))


def _check_same_studies(first: Judged, other: Judged) -> None:
    """The same names, annotations, and what was annotated: case_1 of two data sets is not one study."""
    apart = first.rows.keys() ^ other.rows.keys()
    if apart:
        study, target = min(apart)
        has, lacks = (first, other) if (study, target) in first.rows else (other, first)
        word = f" ({target})" if target else ""
        raise UserError(
            f"{other.path}: it was not judged on the same studies as {first.path}: {study}{word} was judged by "
            f"{has.name} and not by {lacks.name}; evaluate them on one data set and fold"
        )
    for unit, row in first.rows.items():
        for name in ("reference_volume_ml", "reference_lesions"):
            if not math.isclose(row[name], other.rows[unit][name], rel_tol=1e-6, abs_tol=1e-9):
                raise UserError(
                    f"{other.path}: its {unit[0]} is another study than that of {first.path}, or was annotated anew "
                    f"({name}: {row[name]:g} there, {other.rows[unit][name]:g} here)"
                )
    if first.rules != other.rules:
        raise UserError(
            f"{other.path}: it was scored by the rules {other.rules}, {first.path} by {first.rules}; score both by one"
        )
