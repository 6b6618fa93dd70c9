"""Which studies a person means who names a folder: a whole data set, or one study."""

from __future__ import annotations

from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import LAYOUTS, Layout, detect_layout, find_layout, folder, study_from_folder
from jaxstroke.errors import UserError


def look_up(path: Path, layout: str = "") -> tuple[Layout, list[Case]]:
    """The studies that lie there and their layout, which is recognised unless it is given."""
    if layout:
        chosen = find_layout(layout)
        return chosen, studies_in(path, chosen)
    try:
        chosen = detect_layout(path)
    except UserError:
        for chosen in LAYOUTS.values() if path.is_dir() else ():
            one = chosen.study(path)
            if one is not None:
                return chosen, [one]
        raise
    return chosen, chosen.find(path)


def studies_at(path: Path, layout: Layout) -> list[Case]:
    """The studies that lie there in this layout, else in whichever is recognised."""
    if layout.recognises(path):
        return layout.find(path)
    try:
        return [study_from_folder(path, layout)]
    except UserError:
        try:
            return look_up(path)[1]
        except UserError:
            if folder.is_described(path):
                raise
        raise


def studies_in(path: Path, layout: Layout) -> list[Case]:
    """The studies of a data set, or the one whose folder it is."""
    one = layout.study(path) if path.is_dir() and not layout.recognises(path) else None
    return [one] if one else layout.find(path)
