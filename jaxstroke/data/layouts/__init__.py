"""The data sets that can be read: one file each, which defines `LAYOUT`.

>>> find_layout("isles2018").title
'ISLES 2018'
"""

from __future__ import annotations

from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import atlas, folder, isles2018, isles2022, isles2024, soop, two_reader
from jaxstroke.data.layouts.layout import Layout
from jaxstroke.errors import UserError, nearest
from jaxstroke.phantoms.marker import PHANTOM_FILE, phantom_facts

__all__ = [
    "LAYOUTS",
    "PHANTOM_FILE",
    "Layout",
    "detect_layout",
    "find_layout",
    "folder_of",
    "phantom_facts",
    "study_from_folder",
]

# In the order in which a folder is asked; what a person's own folder may look like is asked last.
LAYOUTS = {file.LAYOUT.name: file.LAYOUT for file in (isles2018, isles2024, isles2022, two_reader, atlas, soop, folder)}


def find_layout(word: str) -> Layout:
    if word not in LAYOUTS:
        raise UserError(f"data.layout={word}: there is no such layout.{nearest(word, LAYOUTS)}")
    return LAYOUTS[word]


def detect_layout(root: Path) -> Layout:
    """Tells in which layout the studies of a folder lie."""
    if not root.exists():
        raise UserError(f"{root}: there is no such folder")
    for layout in LAYOUTS.values():
        if layout.recognises(root):
            return layout
    if folder.is_described(root):
        return folder.LAYOUT  # whose `find` says what is wrong with the description
    looked_for = "; ".join(f"{layout.expects} ({layout.title})" for layout in LAYOUTS.values())
    raise UserError(f"{root}: no known data set was found there; looked for {looked_for}")


def study_from_folder(path: Path, layout: Layout) -> Case:
    """Returns the study that lies in its own folder (`case_1`, `sub-strokecase0001`, `study_001`)."""
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder")
    case = layout.study(path)
    if case is None:
        raise UserError(f"{path}: no study of {layout.title} lies there; looked for files as in {layout.expects}")
    return case


def folder_of(case: Case, root: Path) -> Path:
    """The folder below `root` that `study_from_folder` finds this very study in."""
    layout = find_layout(case.layout)
    files = set(case.images.values())
    for above in next(iter(case.images.values())).parents:
        try:
            found = layout.study(above)
        except UserError:  # several studies lie there
            found = None
        if found is not None and set(found.images.values()) == files:
            return above
        if above == root:
            break
    return root
