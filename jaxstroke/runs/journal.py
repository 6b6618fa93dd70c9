"""The figures of a run, a JSON object a line: one line for each validated epoch.

Non-finite numbers are written as null, so that every line is JSON.  A resumed run first drops the lines written after
the checkpoint that it goes on from, so that its journal is that of a run never interrupted.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from jaxstroke.runs import files


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """Returns every whole line; a last line cut off by a crash is passed over."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def append(self, row: dict[str, Any]) -> None:
        line = json.dumps({name: _plain(value) for name, value in row.items()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_until(self, step: int) -> None:
        """Drops the rows after a step."""
        rows = [row for row in self.rows() if row["step"] <= step]
        files.write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
