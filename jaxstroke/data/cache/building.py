"""Preparing studies into a cache, or taking the one that is there; an interrupted build goes on where it was."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke import command, console
from jaxstroke.data.cache.fingerprint import FORMAT, fingerprint_of, recipe_of, source_files
from jaxstroke.data.cache.format import (
    ARRAYS,
    INDEX,
    Cache,
    CachedStudy,
    cache_from,
    finish,
    finished,
    read_json,
    study_from,
    write_arrays,
    write_json,
)
from jaxstroke.data.case import Case
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.prepare import Prepared, prepare
from jaxstroke.data.study import Study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data
from jaxstroke.files.atomic import sweep
from jaxstroke.process import cores

Progress = Callable[..., None]


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclasses.dataclass(frozen=True)
class Share:
    """What one process of a job does of what all do: every `count`-th, from `index` on.

    `gather` returns every process's value (of JSON), in their order.
    """

    index: int = 0
    count: int = 1
    gather: Callable[[Any], list[Any]] = _alone

    def of(self, cases: Sequence[Case]) -> Sequence[Case]:
        return cases[self.index :: self.count]


def build_cache(
    cases: Sequence[Case],
    data: Data,
    folder: Path,
    progress: Progress | None = None,
    *,
    keep_going: bool = False,
    share: Share = Share(),  # noqa: B008
) -> Cache:
    """Prepares the studies into a cache below `folder`, or takes the one that is there.

    Args:
      cases: the studies; each must have every image and every target that `data` names.
      data: what is prepared, and how.
      folder: of all caches; this one lies in a folder that bears its fingerprint.
      progress: called with (1, study) after each study.
      keep_going: a study that cannot be prepared is warned of and left out; else it ends everything.
      share: which of the studies this process prepares, where all processes of a job call this together.
    """
    if not cases:
        raise UserError("there is no study to prepare")
    advance = progress or (lambda steps, note: None)
    recipe = recipe_of(data)
    faults: list[str] = []
    attempt = functools.partial(_leaving_out, faults) if keep_going else _naming_check
    own: dict[str, Any] = {}
    for case in share.of(cases):
        with attempt():
            own[case.study] = source_files(case, data)
    found = _merged(share.gather(own))
    readable = [case for case in cases if case.study in found]
    sources = {case.study: found[case.study] for case in readable}
    fingerprint = fingerprint_of(recipe, readable, sources)
    home = folder / fingerprint
    sweep(home)
    own = {}

    def one(case: Case) -> CachedStudy | None:
        return _prepared(case, data, home, fingerprint, attempt) if case.study in sources else None

    for case, study in _side_by_side(one, share.of(cases), cores.usable() if data.preparation.any else 1):
        own |= {case.study: dataclasses.asdict(study)} if study else {}
        advance(1, case.study)
    trees = _merged(share.gather(own))
    for fault in itertools.chain(*share.gather(faults)):
        console.warn(f"left out: {fault}")
    if not trees:
        raise UserError(f"none of the {len(cases)} studies could be prepared; jaxstroke check DATA names every fault")
    studies = [study_from(trees[case.study], home / INDEX) for case in readable if case.study in trees]
    cache = _indexed(home, fingerprint, recipe, sources, studies, write=share.index == 0)
    share.gather(None)  # the index is there
    return cache


def _side_by_side(
    one: Callable[[Case], CachedStudy | None], cases: Sequence[Case], many: int
) -> Iterator[tuple[Case, CachedStudy | None]]:
    """Each case with what `one` makes of it, in their order; `many` are worked on at a time, and no more are begun.

    Threads will do where the work is: ITK runs outside Python's lock.
    """
    if many == 1:
        yield from ((case, one(case)) for case in cases)
        return
    with concurrent.futures.ThreadPoolExecutor(many) as pool:
        waiting: collections.deque[tuple[Case, concurrent.futures.Future[CachedStudy | None]]] = collections.deque()
        for case in cases:
            waiting.append((case, pool.submit(one, case)))
            if len(waiting) >= many:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {study: value for part in parts for study, value in part.items()}


def _prepared(
    case: Case, data: Data, home: Path, fingerprint: str, attempt: Callable[[], contextlib.AbstractContextManager[None]]
) -> CachedStudy | None:
    """A study as an earlier build left it, or prepared now; None where it cannot be read and is left out."""
    study = finished(home, case.study, fingerprint)
    if study is not None:
        return study
    read = None
    with attempt():  # to read it: a full disk or a wrong setting is no fault of the study
        read = read_with(data.preparation, case, data.channels, data.targets)
    return _build_study(home, read, data, fingerprint) if read else None


@contextlib.contextmanager
def _naming_check() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        what = f"{command.text('check')} DATA names every fault, --keep-going leaves such studies out"
        raise UserError(f"{error} ({what})") from None


@contextlib.contextmanager
def _leaving_out(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        faults.append(str(error))


def derive_cache(
    cache: Cache,
    folder: Path,
    *,
    name: str,
    made_by: Sequence[str],
    channel: Callable[[str, np.ndarray], np.ndarray],
    progress: Progress | None = None,
) -> Cache:
    """Returns a cache of the same studies with one more image behind the others, or takes the one that is there.

    Args:
      cache: what it is made from.
      folder: of all caches.
      name: the word of the new image.
      made_by: what else than the cache decides it, such as checksums of weights.
      channel: (study, images (D, H, W, C)) -> the new image (D, H, W).
      progress: called with (1, study) after each study.
    """
    advance = progress or (lambda steps, note: None)
    text = json.dumps([FORMAT, cache.fingerprint, name, *made_by])
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    home = folder / fingerprint
    sweep(home)
    studies = []
    for study in cache.studies:
        done = finished(home, study.study, fingerprint)
        studies.append(done or _derive_study(home, cache, study, channel, fingerprint))
        advance(1, study.study)
    recipe = {**cache.recipe, "derived": [*cache.recipe.get("derived", []), name]}
    return _indexed(home, fingerprint, recipe, {"cache": cache.fingerprint, "made_by": list(made_by)}, studies)


def _indexed(
    home: Path,
    fingerprint: str,
    recipe: dict[str, Any],
    sources: dict[str, Any],
    studies: Sequence[CachedStudy],
    *,
    write: bool = True,
) -> Cache:
    """Writes the index of finished studies, unless it is there already, and opens the cache."""
    index = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "recipe": recipe,
        "sources": sources,
        "studies": [dataclasses.asdict(study) for study in studies],
    }
    if write and read_json(home / INDEX) != json.loads(json.dumps(index)):
        if (home / INDEX).exists():
            console.warn(f"{home / INDEX}: it is damaged; it is written again")
        write_json(home / INDEX, index)
    return cache_from(home, index)


def _build_study(home: Path, study: Study, data: Data, fingerprint: str) -> CachedStudy:
    prepared = prepare(study, data)
    files = write_arrays(home, study.case.study, {kind: getattr(prepared, kind) for kind in ARRAYS})
    return finish(home, _describe(study.case, prepared, files), fingerprint)


def _derive_study(
    home: Path,
    cache: Cache,
    study: CachedStudy,
    channel: Callable[[str, np.ndarray], np.ndarray],
    fingerprint: str,
) -> CachedStudy:
    arrays = {kind: np.asarray(cache.array(study.study, kind)) for kind in ARRAYS}
    added = np.asarray(channel(study.study, arrays["images"]), np.float32)
    arrays["images"] = np.concatenate([arrays["images"], added[..., None]], axis=-1)
    files = write_arrays(home, study.study, arrays)
    return finish(home, dataclasses.replace(study, files=files), fingerprint)


def _describe(case: Case, prepared: Prepared, files: dict[str, str]) -> CachedStudy:
    depth, height, width = prepared.masks.shape[:3]
    lesion = tuple(int(count) for count in prepared.masks.sum(axis=(1, 2, 3), dtype=np.int64))
    return CachedStudy(
        case.study, case.patient, (depth, height, width), lesion, prepared.spacing_mm, prepared.inverse, files
    )
