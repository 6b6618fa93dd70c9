"""Which studies a run is judged on: those it held out, or every study of a data set that it never saw."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxstroke import user_cache
from jaxstroke.data.case import Case
from jaxstroke.data.source import Source, open_source
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data
from jaxstroke.files import nifti
from jaxstroke.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Attributes:
    source, cases: the data set and the studies to judge.
    name: of the evaluation: the split, or `external-FOLDER`.
    words: of the studies, as they are spoken of.
    """

    source: Source
    cases: tuple[Case, ...]
    name: str
    words: str


def held_out(run: RunFolder, data: Data, *, split: str, folder: str | None, allow_missing: bool = False) -> HeldOut:
    """The run's own studies of a split; where `folder` holds another data set, every annotated study of it.

    With `allow_missing` those of another data set need not have all of the network's images.
    """
    about = run.about()
    never_trained = not any(about["split"].values())
    if folder and (never_trained or not _is_own(about, data, Path(folder))):
        return _external(data, Path(folder), allow_missing=allow_missing)
    if never_trained:
        raise UserError(
            f"{run.path}: it was never trained here, so no study was held out from it; name a data set with --data, "
            "and every study there is judged"
        )
    place = Path(folder or about["data"])
    embedded = about["phantom"] and not place.exists() and not folder  # which can be made again
    source = open_source(data, None if embedded else place, user_cache.folder(), about.get("layout", ""))
    cases = source.named(tuple(about["split"][split]))
    if not cases:
        raise UserError(f"{run.path}: the run has no {split} studies")
    return HeldOut(source, cases, split, f"{split} studies")


def held_out_from_all(
    runs: Sequence[RunFolder], *, split: str, folder: str | None, allow_missing: bool = False
) -> HeldOut:
    """What no run was trained on: the studies of a split that are every run's, or a data set that none of them saw."""
    each = [
        held_out(run, run.experiment().data, split=split, folder=folder, allow_missing=allow_missing) for run in runs
    ]
    first = each[0]
    for run, own in zip(runs, each, strict=True):
        if own.name != first.name or not own.source.root.samefile(first.source.root):
            raise UserError(
                f"{run.path}: it is judged on {own.words} ({own.source.root}), and {runs[0].path} on {first.words} "
                f"({first.source.root}); name a data set that none of them saw with --data"
            )
    if len(runs) == 1 or first.name != split:
        return first
    shared = set.intersection(*({case.study for case in own.cases} for own in each))
    if not shared:
        raise UserError(
            f"no study is among the {split} studies of all {len(runs)} runs (in a cross-validation each study trained "
            "some of them), so none can judge them together; name a data set that none saw with --data"
        )
    words = f"{first.words}, those of all {len(runs)} runs"
    return dataclasses.replace(first, cases=tuple(c for c in first.cases if c.study in shared), words=words)


def shared(runs: Sequence[RunFolder], split: str) -> set[str]:
    """The studies of a split that are every run's; none where the runs are of different data sets."""
    abouts = [run.about() for run in runs]
    if len({about["data"] for about in abouts}) > 1:
        return set()
    return set.intersection(*(set(about["split"][split]) for about in abouts))


def _external(data: Data, folder: Path, *, allow_missing: bool) -> HeldOut:
    source = open_source(data, folder, user_cache.folder(), allow_missing=allow_missing)
    cases = source.annotated(data.targets)
    lacking = [(case, word) for case in cases if not case.fault for word in data.channels if word not in case.images]
    if lacking and not allow_missing:
        case, word = lacking[0]
        raise UserError(
            f"{folder}: the network needs {word}, which {case.study} does not have; --allow-missing judges all the "
            "same, with 0 there"
        )
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", folder.absolute().name)
    return HeldOut(source, cases, f"external-{name}", f"studies of {folder.absolute().name}, none of which it saw")


def _is_own(about: dict[str, Any], data: Data, folder: Path) -> bool:
    """Whether a folder holds the data that the run was trained on, there or in another place.

    The names of studies do not tell (every ISLES 2018 begins with case_1), so files are compared where the first place
    is still there; where it is gone, a folder with every study of the run is taken for it.
    """
    before = Path(about["data"])
    if not folder.exists():
        raise UserError(f"{folder}: there is no such folder; --data names a data set")
    if before.exists() and before.samefile(folder):
        return True
    wanted = {study for part in about["split"].values() for study in part}
    try:
        there = {case.study: case for case in open_source(data, folder, user_cache.folder()).cases}
    except UserError:
        return False  # of another layout, or nothing at all: which is said when it is opened as another data set
    if not wanted <= there.keys():
        return False
    if not before.exists():
        return True
    first = {case.study: case for case in open_source(data, before, user_cache.folder()).cases}
    study = min(wanted & first.keys(), default=None)
    return study is not None and _same_files(first[study], there[study], data)


def _same_files(one: Case, other: Case, data: Data) -> bool:
    pairs = [(one.images.get(word), other.images.get(word)) for word in data.channels]
    pairs += [(one.masks.get(word), other.masks.get(word)) for word in data.targets]
    return all(a is not None and b is not None and nifti.identity(a) == nifti.identity(b) for a, b in pairs)
