"""What a table of a paper is, as data: rows (each an experiment), columns (each a score), and what the paper prints.

A row's `published` holds the paper's figures in the order of the columns, as they are printed, parted by `|`; `-` where
the paper has none.  They are shown beside ours, and nothing is computed from them but a picture.

>>> Row("U-Net", "unet_isles18", "53.34 +- 0.85 | -").figures
('53.34 +- 0.85', '')
>>> number("53.34 +- 0.85")
(53.34, 0.85)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

SIZES = ("mib", "gmac")  # of the weights; multiply-accumulates of one example
OF_A_RUN = ("study_s",)  # seconds that one study takes, on the machine that the table names


@dataclasses.dataclass(frozen=True)
class Column:
    """A score, in the paper's unit: `factor` brings ours to it (100 for per cent).

    Or a size of the network (`SIZES`), counted at full scale whatever was trained; or what a run takes (`OF_A_RUN`).
    """

    score: str
    heading: str
    factor: float = 1.0
    decimals: int = 3


@dataclasses.dataclass(frozen=True)
class Answers:
    """How the runs of a row answer, where a table is about that; every seed is calibrated first, where it says so.

    Attributes:
      name: of what is kept.
      calibrated: by the calibrated rule, else by the experiment's.
      mirrored: with mirrored copies.
      together: all seeds as one.
      change: what makes the studies unlike (`papers.answers`); as they are where none is named.
    """

    name: str
    calibrated: bool = False
    mirrored: bool = False
    together: bool = False
    change: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """Attributes:
    name: as the paper names it.
    experiment: what is trained for it; empty where the paper copies the figures from elsewhere and nothing is trained.
    published: see above.
    target: the annotation that it is judged against; the experiment's first where none is named.
    stratum: of the reference's volume, as `metrics.strata` names them; all studies where none is named.
    note: what differs from the paper's row.
    answers: how its runs answer; by themselves, as `evaluate` judges a run, where nothing is said.
    """

    name: str
    experiment: str
    published: str
    target: str = ""
    stratum: str = ""
    note: str = ""
    answers: Answers | None = None

    @property
    def figures(self) -> tuple[str, ...]:
        words = tuple(word.strip() for word in self.published.split("|"))
        return tuple("" if word == "-" else word for word in words)


@dataclasses.dataclass(frozen=True)
class Table:
    """Attributes:
    name: PAPER-NUMBER.
    where: in the paper.
    published_on: the data of the published figures.
    plan: `folds`: each study is held out once; `seeds`: the data set lays its test studies down, and seeds differ.
    repeats: how many folds or seeds the paper has.
    over: which mean the paper prints: of the folds' means, or of all studies.
    rules: the convention of scoring, see docs/metrics.md.
    against: the row that the others' Dice is tested against.
    """

    name: str
    title: str
    where: str
    published_on: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    plan: Literal["folds", "seeds"]
    repeats: int
    over: Literal["over_folds", "over_studies"]
    rules: str
    against: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of a paper, drawn of our own run; the paper's is not shown.

    Attributes:
      name: PAPER-figNUMBER.
      where: in the paper.
      table, row: whose first run is drawn.
      draws: `maps`: what the network looks at in three studies; `slices`: the same along the slices of one study;
        `kappa`: between readers and the network; `readers`: Dice of the network beside Dice of a second reader.
      maps: what the network shows, by its path, and what that is called in the figure.
    """

    name: str
    title: str
    where: str
    table: str
    row: str
    draws: Literal["maps", "slices", "kappa", "readers"]
    maps: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return f"{self.name}.png"


@dataclasses.dataclass(frozen=True)
class Paper:
    name: str
    title: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...] = ()


def number(figure: str) -> tuple[float, float]:
    """Mean and deviation of a printed figure; NaN where it has none."""
    mean, _, sd = figure.partition("+-")
    return (float(mean) if mean.strip() else math.nan), (float(sd) if sd.strip() else math.nan)
