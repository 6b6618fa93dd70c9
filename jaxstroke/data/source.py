"""Where the studies of a run come from: the folder that was named, or the embedded phantom.

A named folder that does not hold the wanted data is an error; the phantom is used only where no folder was named.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from jaxstroke import console
from jaxstroke.data.case import Case
from jaxstroke.data.layouts import LAYOUTS, Layout, find_layout
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data
from jaxstroke.files.tables import read_rows
from jaxstroke.phantoms.marker import phantom_facts
from jaxstroke.process import cores

ENVIRONMENT = "JAXSTROKE_DATA"
CENTRES = "centres.csv"
QUALITY = "quality.csv"


@dataclasses.dataclass(frozen=True)
class Source:
    """The studies of a data set, and whether they are phantoms."""

    root: Path
    layout: Layout
    cases: tuple[Case, ...]
    phantom: bool

    def annotated(self, targets: Sequence[str]) -> tuple[Case, ...]:
        """The studies with these masks; also those that cannot be looked into, which must be told and not left out."""
        found = tuple(case for case in self.cases if case.fault or all(target in case.masks for target in targets))
        if all(case.fault for case in found):
            raise UserError(f"{self.root}: no study there has the annotation {', '.join(targets)}")
        return found

    def named(self, studies: tuple[str, ...]) -> tuple[Case, ...]:
        """The cases of these names, in this order; a study that is gone is an error."""
        by_name = {case.study: case for case in self.cases}
        missing = [study for study in studies if study not in by_name]
        if missing:
            raise UserError(f"{self.root}: study {missing[0]} is not there; say with --data where it lies now")
        return tuple(by_name[study] for study in studies)


def named_folder(argument: str | None) -> Path | None:
    """The folder of `--data`, else of JAXSTROKE_DATA, else None."""
    folder = argument or os.environ.get(ENVIRONMENT)
    return Path(folder) if folder else None


def open_source(
    data: Data, folder: Path | None, cache: Path, layout_word: str = "", *, allow_missing: bool = False
) -> Source:
    """Finds the studies in `folder`, or makes the embedded phantom in `cache` where no folder is named.

    The experiment's own layout is looked for first, then every other that has its images, or with `allow_missing` any
    of them; `layout_word` names one.
    """
    layout = find_layout(layout_word or data.layout)
    named = folder is not None
    folder = folder or embedded_phantom(data, cache)
    if not folder.exists():
        raise UserError(
            f"{folder}: there is no such folder; {layout.title} is looked for there. Get it from {layout.source}"
        )
    phantom = phantom_facts(folder) is not None
    if phantom and named:
        _check_phantom(folder)
    if not layout_word and not layout.recognises(folder):
        layout = _other_layout(folder, data, allow_missing=allow_missing) or layout
    return Source(folder, layout, tuple(with_tables(layout.find(folder), folder)), phantom)


def _other_layout(folder: Path, data: Data, *, allow_missing: bool) -> Layout | None:
    """The layout that the folder has instead, if any of its studies has every image that the experiment needs."""
    needed = set(data.channels)
    for layout in LAYOUTS.values():
        if layout.recognises(folder):
            there = [needed & set(case.images) for case in layout.find(folder)]
            return layout if any(found if allow_missing else found == needed for found in there) else None
    return None


def with_tables(cases: Sequence[Case], folder: Path) -> list[Case]:
    """The cases with what tables in their folder tell: `centres.csv` (study,centre), `quality.csv` (study,quality)."""
    centres, quality = column_of(folder / CENTRES, "centre"), column_of(folder / QUALITY, "quality")
    return [
        dataclasses.replace(
            case,
            centre=centres.get(case.study, case.centre),
            facts={**case.facts, **({"quality": quality[case.study]} if quality.get(case.study) else {})},
        )
        for case in cases
    ]


def column_of(table: Path, name: str) -> dict[str, str]:
    """The words of a column by study; none where there is no such table."""
    if not table.is_file():
        return {}
    rows = read_rows(table)
    if not rows or not {"study", name} <= rows[0].keys():
        raise UserError(f"{table}: its columns must be study and {name}")
    return {row["study"]: row[name].strip() for row in rows}


def _check_phantom(folder: Path) -> None:
    from jaxstroke.phantoms import dataset

    damaged = dataset.damaged(folder)
    if damaged:
        raise UserError(f"{damaged}: it is missing or damaged; delete {folder} and make the phantom anew")


def embedded_phantom(data: Data, cache: Path) -> Path:
    """Returns the folder of the phantom that the experiment asks for; makes it where it is not there yet."""
    from jaxstroke import phantoms
    from jaxstroke.phantoms import dataset

    with_ctp = "CTP" in data.channels
    name = f"phantom-{data.layout}-{data.phantom_seed}-{data.phantom_cases}{'-ctp' if with_ctp else ''}"
    folder = cache / name
    marker = dataset.describe(data.layout, cases=data.phantom_cases, seed=data.phantom_seed, with_ctp=with_ctp)
    try:
        complete = dataset.already_there(folder, marker)
        damaged = dataset.damaged(folder) if complete else None
        problem = f"{damaged}: it is missing or damaged" if damaged else None
    except UserError as error:
        complete, problem = False, str(error)
    if problem:
        console.warn(f"{problem}; the phantom of the cache is made again")
        shutil.rmtree(folder)
    if problem or not complete:
        with console.bar("making the phantom", data.phantom_cases, "studies") as advance:
            phantoms.generate(
                data.layout,
                cases=data.phantom_cases,
                seed=data.phantom_seed,
                folder=folder,
                with_ctp=with_ctp,
                workers=min(cores.usable(), 8),
                progress=advance,
            )
    return folder
