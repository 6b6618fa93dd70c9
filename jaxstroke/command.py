"""How the program was called, so that what it tells a person to type is typed the same way.

    jaxstroke train ...              ->  jaxstroke evaluate RUN
    python -m jaxstroke.train ...    ->  python -m jaxstroke.evaluate RUN
    python -m jaxstroke train ...    ->  python -m jaxstroke evaluate RUN

A program or a Python that was named by its path, and that the shell would not find by its name, is named by its whole
path: what is printed can be typed in any folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CALLED = "JAXSTROKE_CALLED"  # how the parent of a watched process was called


def words(door: str) -> list[str]:
    """What to type for a door, before its own words."""
    *first, last = _way()
    return [*first, last + door] if last.endswith(".") else [*first, last, door]


def text(door: str) -> str:
    return shlex.join(words(door))


def environment() -> dict[str, str]:
    """For a child that does this process's work and speaks in its name."""
    return {_CALLED: shlex.join(_way())}


def python() -> str:
    """The Python that runs, as a shell finds it."""
    typed = sys.orig_argv[0] if sys.orig_argv else ""
    return typed if typed and os.path.basename(typed) == typed else _found(sys.executable)


def _way() -> list[str]:
    """The words before a door's name; a last one that ends in a dot is joined to it."""
    if _CALLED in os.environ:
        return shlex.split(os.environ[_CALLED])
    called = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path()
    if called.name == "jaxstroke":
        return [_found(sys.argv[0])]
    front = called.name == "__main__.py" and called.resolve().parent == _PACKAGE
    return [python(), "-m", "jaxstroke" if front else "jaxstroke."]


def _found(program: str) -> str:
    """The name of a program where the shell finds this very file by it, else its whole path."""
    name, found = os.path.basename(program), shutil.which(os.path.basename(program))
    whole = os.path.abspath(program)
    return name if found is not None and os.path.abspath(found) == whole else whole
