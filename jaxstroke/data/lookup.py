"""Which studies a person means who names a folder: a whole data set, or one study."""

from __future__ import annotations

from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import LAYOUTS, Layout, detect_layout, find_layout
from jaxstroke.errors import UserError


def look_up(path: Path, layout: str = "") -> tuple[Layout, list[Case]]:
    """The studies that lie there and their layout, which is recognised unless it is given."""
    if layout:
        chosen = find_layout(layout)
        one = chosen.study(path) if path.is_dir() and not chosen.recognises(path) else None
        return chosen, [one] if one else chosen.find(path)
    try:
        chosen = detect_layout(path)
    except UserError:
        for chosen in LAYOUTS.values() if path.is_dir() else ():
            one = chosen.study(path)
            if one is not None:
                return chosen, [one]
        raise
    return chosen, chosen.find(path)
