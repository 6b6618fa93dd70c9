"""What the program says to a person when it cannot go on.

`UserError` is the one exception that doors turn into a single plain line and a non-zero exit.  Its text
names the file or the value, what is wrong with it, and what to do.  Everything else that escapes is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """A mistake or a circumstance that the person at the keyboard can mend; its text says how."""


def short(value: Any) -> str:
    """A value, of which nothing is known yet, as it can stand in that line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Returns a sentence that names the closest known words, or all of them when none is close."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5) or known
    return " Did you mean " + " or ".join(prefix + one for one in close[:8]) + "?"
