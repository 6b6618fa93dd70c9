"""What has to be trained for a table, and what of it is measured: a run for each experiment and fold (or seed).

A run once measured is a small JSON file, which counts as long as the experiment, the data and the rules stay as they
were; the run folder itself may be deleted.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, as_json, catalogue, overrides
from jaxstroke.files.sealed import sealed
from jaxstroke.papers.declared import Answers, Row, Table
from jaxstroke.runs import place

REPEATS_SMALL = 3
PHANTOM = "phantom"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Planned:
    """One training and its evaluation.

    Attributes:
      name: of the experiment; its scale, and `changes` to it: the fold, or the seed.
      mark: `fold-0-of-3` or `seed-0`.
      rules: of the evaluation.
      data: the folder of the data set; None: the phantom.
      answers: how it answers, as of its row.
      seeds: how many runs are calibrated with it.
    """

    name: str
    scale: str
    mark: str
    changes: Mapping[str, int]
    rules: str
    data: Path | None
    answers: Answers | None = None
    seeds: int = 1

    @property
    def every_seed(self) -> list[Planned]:
        """The trainings that it is calibrated with, itself among them."""
        return [
            dataclasses.replace(self, mark=f"seed-{seed}", changes={"training.seed": seed})
            for seed in range(self.seeds)
        ]

    @property
    def run(self) -> Path:
        return place.RUNS / "tables" / self._stem

    @property
    def _stem(self) -> str:
        whose = [] if self.data is None else [self.data.absolute().name]
        return "-".join([self.name, *(["small"] if self.scale == "small" else []), *whose, self.mark])

    @property
    def file_name(self) -> str:
        how = f"-{self.answers.name}" if self.answers else ""
        return f"{self._stem}{how}-{self.rules}.json"

    @property
    def split(self) -> str:
        """The evaluation's name in the run folder."""
        return "test" if self.rules == "isles22" else f"test-{self.rules}"

    @functools.cached_property
    def experiment(self) -> Experiment:
        return overrides.override(catalogue.load(self.name, scale=self.scale), self.changes)

    def words(self) -> list[str]:
        """For the door `train`."""
        changes = [f"{field}={value}" for field, value in self.changes.items()]
        data = [] if self.data is None else ["--data", str(self.data)]
        return [*catalogue.as_words(self.name, self.scale, changes), "--out", str(self.run), *data]


def planned(table: Table, row: Row, *, scale: str, repeats: int | None, data: Mapping[str, Path]) -> list[Planned]:
    """The runs of a row; none where nothing is trained for it."""
    if not row.experiment:
        return []
    count = repeats or (REPEATS_SMALL if scale == "small" else table.repeats)
    if table.plan == "folds" and count < 2:
        raise UserError(f"--seeds {count}: {table.name} goes by folds, and at least 2 are needed")
    folder = data.get(catalogue.load(row.experiment, scale=scale).data.layout)
    if row.answers and row.answers.together:
        mark = f"seeds-{count}"
        return [Planned(row.experiment, scale, mark, {"training.seed": 0}, table.rules, folder, row.answers, count)]
    return [
        Planned(
            row.experiment,
            scale,
            f"fold-{one}-of-{count}" if table.plan == "folds" else f"seed-{one}",
            {"data.folds": count, "data.fold": one} if table.plan == "folds" else {"training.seed": one},
            table.rules,
            folder,
            row.answers,
            count,
        )
        for one in range(count)
    ]


def of_tables(tables: Sequence[Table], rows: Sequence[str] = (), **how: Any) -> list[Planned]:
    """Every run that the tables need, once; of `rows` alone where some are named."""
    chosen = [(table, row) for table in tables for row in table.rows if not rows or row.name in rows]
    found = [one for table, row in chosen for one in planned(table, row, **how)]
    return list({one.file_name: one for one in found}.values())


def keep(folder: Path, one: Planned, measured: Mapping[str, Any]) -> None:
    """`measured` is what was found, or `{"failed": why}`."""
    files.write_text(folder / one.file_name, json.dumps(sealed({**_of(one), **measured}), sort_keys=True) + "\n")


def kept(folder: Path, one: Planned) -> dict[str, Any]:
    """What is kept of a run as it is planned now; nothing where it has none, or was measured as another one."""
    path = folder / one.file_name
    if not path.is_file():
        return {}
    tree = files.read_sealed(path)
    same = all(tree.get(name) == value for name, value in _of(one).items() if name != "experiment")
    try:
        return tree if same and as_json.from_tree(Experiment, tree.get("experiment"), "") == one.experiment else {}
    except UserError:  # an experiment of fields that are no more
        return {}


def is_measured(tree: Mapping[str, Any]) -> bool:
    return bool(tree) and "failed" not in tree


def _of(one: Planned) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "experiment": files.as_read(dataclasses.asdict(one.experiment)),
        "rules": one.rules,
        "data": PHANTOM if one.data is None else one.data.absolute().name,
    }


def seconds(folder: Path, todo: Sequence[Planned], every: Sequence[Planned]) -> float | None:
    """How long the runs take, as those took that are measured: the same experiment's, else the middle of all."""
    took = {one.file_name: kept(folder, one).get("seconds") for one in every}
    known: dict[str, list[float]] = {}
    for one in every:
        if took[one.file_name]:
            known.setdefault(one.name, []).append(float(took[one.file_name] or 0))
    if not known:
        return None
    middle = statistics.median(value for values in known.values() for value in values)
    return sum(statistics.median(known.get(one.name, [middle])) for one in todo)
