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

from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.files.sealed import SEAL, sealed, unsealed


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """Returns every whole line; a last line cut off by a crash is passed over."""
        if not os.path.lexists(self.path):
            return []
        rows = []
        for number, line in enumerate(self._text().split("\n")[:-1], start=1):
            row = _row(line)
            if row is None:
                raise UserError(f"{self.path}: line {number} is damaged; delete this line to go on without it")
            rows.append(row)
        return rows

    def append(self, row: dict[str, Any]) -> None:
        line = json.dumps(sealed({name: _plain(value) for name, value in row.items()}))
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{self.path}: it cannot be written ({error.strerror}); free space there") from None

    def _text(self) -> str:
        return files.read_text(self.path)

    def keep_until(self, step: int) -> None:
        """Drops the rows after a step."""
        rows = [row for row in self.rows() if row["step"] <= step]
        files.write_text(self.path, "".join(json.dumps(sealed(row)) + "\n" for row in rows))


def _row(line: str) -> dict[str, Any] | None:
    """A line's figures, or None where they are not as they were written; lines of before had no checksum."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(row, dict) and SEAL in row:
        row = unsealed(row)
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    return row if all(value is None or isinstance(value, (int, float)) for value in row.values()) else None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
