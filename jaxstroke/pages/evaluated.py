"""What `evaluate` left of a run on disk, read for a page: scores, and a view of each study."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.files.tables import read_rows
from jaxstroke.metrics.scorecard import COLUMNS
from jaxstroke.runs.folder import RunFolder

VIEWS, PICTURES, INDEX = "views", "pictures", "views.json"
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Attributes: run; rows, one for each study, annotation and system; views, the file of each study that has one."""

    run: RunFolder
    rows: Sequence[Row]
    views: Mapping[str, Path]


def evaluated(run: RunFolder, split: str) -> Evaluated:
    """What the run's evaluation of that name left; nothing where it was not evaluated."""
    folder = run.path / "evaluation" / split
    index = files.read_json(folder / INDEX) if (folder / INDEX).exists() else {}
    if not isinstance(index, dict):
        raise UserError(f"{folder / INDEX}: it cannot be read; evaluate the run again")
    views = {str(study): folder / VIEWS / Path(str(name)).name for study, name in index.items()}
    return Evaluated(run, rows(folder / "scores.csv"), views)


def file_stem(study: str) -> str:
    """A study's name as a file's: where it holds characters that a file system minds, a fingerprint makes it unique."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", study)[:80]
    return safe if safe == study else f"{safe}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"


def rows(path: Path) -> list[Row]:
    if not path.exists():
        return []
    try:
        return [_row(row) for row in read_rows(path)]
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: it cannot be read ({error}); evaluate the run again") from None


def _row(words: Mapping[str, str]) -> Row:
    about = {name: words[name] for name in ("study", "patient", "target", "system")}
    scores = {name: float(words[name]) if words[name] else math.nan for name in COLUMNS if name in words}
    return {**about, **scores}


def view_text(path: Path) -> str:
    """The JSON text of a view, one that is a view at all."""
    try:
        text = path.read_text(encoding="utf-8")
        if not isinstance(json.loads(text), dict):
            raise ValueError("it is no view")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: it cannot be read ({error}); evaluate the run again") from None
    return text
