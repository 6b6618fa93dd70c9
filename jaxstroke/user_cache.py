"""The folder where phantoms, prepared studies and compiled programs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """JAXSTROKE_CACHE, or the user's cache folder."""
    named = os.environ.get("JAXSTROKE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxstroke"
