"""Scores on disk: a CSV of every case, and JSON of cases, means and what they were made by."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.metrics import scorecard
from jaxstroke.metrics.probability import Reliability
from jaxstroke.metrics.rules import Rules

CSV, JSON = "scores.csv", "scores.json"
Row = Mapping[str, Any]


def as_json(rows: Sequence[Row], rules: Rules, *, phantom: bool, reliability: Reliability | None) -> dict[str, Any]:
    """What `score --json` prints: undefined scores are null, and `mean` is over the cases that have a value."""
    summaries = scorecard.summarise(rows)
    mean = {name: summary.mean for name, summary in summaries.items()}
    return {
        "rules": {"name": rules.name, "matching": rules.matching, "source": rules.source},
        "phantom": phantom,
        "cases": [
            {"case": row["case"], **{name: plain(row[name]) for name in scorecard.COLUMNS if name in row}}
            for row in rows
        ],
        "mean": {name: plain(value) for name, value in mean.items()}
        | {"f1_of_means": plain(scorecard.f1_of_means(summaries))},
        "sd": {name: plain(summary.sd) for name, summary in summaries.items()},
        "undefined": {name: summary.undefined for name, summary in summaries.items()},
        **({} if reliability is None else {"reliability": reliability.rows()}),
    }


def plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def text(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=2) + "\n"


def write(folder: Path, rows: Sequence[Row], tree: Mapping[str, Any]) -> None:
    files.write_text(folder / CSV, csv_text(rows, phantom=tree["phantom"]))
    files.write_text(folder / JSON, text(tree))


def csv_text(rows: Sequence[Row], *, phantom: bool) -> str:
    """Every row; the first column says whether these are phantoms."""
    content = io.StringIO()
    writer = csv.DictWriter(content, fieldnames=["data", *dict.fromkeys(name for row in rows for name in row)])
    writer.writeheader()
    writer.writerows({"data": "phantom" if phantom else "real", **row} for row in rows)
    return content.getvalue()
