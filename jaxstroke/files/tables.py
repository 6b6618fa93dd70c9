"""Tables in CSV, as a person, a spreadsheet or a publisher wrote them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from jaxstroke.errors import UserError
from jaxstroke.files.opened import read_text


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows by column; a value that is not there is empty, one that has no column is passed over."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise UserError(f"{path}: it cannot be read as a table ({error})") from None
    return [{column: value or "" for column, value in row.items() if isinstance(column, str)} for row in rows]
