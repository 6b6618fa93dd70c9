"""What is on disk says in which form it was written, a number under "format"; who reads it looks there first.

What says nothing is of form 1: it was written before forms were numbered.  A form gets a new number when a program
that knows only the older ones would read it wrongly; a field more, which they pass over, is no new form.

>>> check(Path("runs/a"), {"jaxstroke": "0.1"}, newest=1, what="run folder")
>>> check(Path("runs/a"), {"format": 3, "jaxstroke": "0.9"}, newest=2, what="run folder")
Traceback (most recent call last):
jaxstroke.errors.UserError: runs/a: jaxstroke 0.9 wrote this run folder in format 3, and this program reads formats \
1 to 2; use that version or a newer one
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxstroke.errors import UserError, short

KEY = "format"
RUN_FOLDER = 1  # with its checkpoints; in about.json
EXPORT = 1  # in report.json
CALIBRATION = 1  # in calibration.json, in a run folder
# The weights beside an exported program travel alone, in a file whose own "format" is another thing.
IN_WEIGHTS = "jaxstroke_format"
# A prepared cache's is in `data.cache.fingerprint`: another one is made where it does not fit.


def check(path: Path, found: Mapping[str, Any], *, newest: int, what: str) -> None:
    """Goes on where this program can read what it found."""
    form = found.get(KEY, 1)
    if isinstance(form, bool) or not isinstance(form, int) or form < 1:
        raise UserError(f"{path}: its {KEY} is {short(form)}, which is no number of a format; this {what} is damaged")
    if form > newest:
        known = f"formats 1 to {newest}" if newest > 1 else "format 1"
        version = short(found.get("jaxstroke", "of a newer version"))
        raise UserError(
            f"{path}: jaxstroke {version} wrote this {what} in {KEY} {short(form)}, and this program reads {known}; "
            "use that version or a newer one"
        )
