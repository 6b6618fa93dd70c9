"""Many studies in a row: one that cannot be read or predicted is told and kept on record, and the others go on."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxstroke import console
from jaxstroke.data.case import Case
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.study import Study
from jaxstroke.errors import UserError
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System

_PARTS = ("reading", "network", "writing", "waiting")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was told of each study that was written, and of each that failed: study, file (or None), reason.

    `seconds` of all studies: reading, network and writing, which go on side by side, and waiting, for which the network
    stood still: for the first study, and then for whatever was slower than it.
    """

    done: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(_PARTS, 0.0))

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - begun

    def told(self) -> str:
        *parts, waiting = (f"{part} {self.seconds[part]:.1f} s" for part in _PARTS)
        return f"{', '.join(parts)}, side by side; the network stood still for {waiting.removeprefix('waiting ')}"


def predict(
    cases: Sequence[Case],
    system: System,
    write: Callable[[Study, Answer], list[dict[str, Any]]],
    advance: Callable[..., None],
    *,
    allow_missing: bool = False,
) -> Outcome:
    """Predicts every study and hands it to `write`, whose own failure ends all: no study's fault.

    `allow_missing`: where a study lacks an image, the network sees 0 there.
    """
    outcome = Outcome([], [])

    def read(case: Case) -> Study:
        with outcome.timed("reading"):
            return _read(case, system, allow_missing=allow_missing)

    def timed_write(study: Study, answer: Answer) -> list[dict[str, Any]]:
        with outcome.timed("writing"):
            return write(study, answer)

    # While the network sees one study, the next is read and the one before is written: three are in memory, no more.
    with concurrent.futures.ThreadPoolExecutor(1) as reader, concurrent.futures.ThreadPoolExecutor(1) as writer:
        writing: concurrent.futures.Future[list[dict[str, Any]]] | None = None
        ahead = reader.submit(read, cases[0])
        for case, following in itertools.zip_longest(cases, cases[1:]):
            try:
                with outcome.timed("waiting"):
                    study = ahead.result()
            except UserError as error:
                study = None
                _failed(outcome, case, error, alone=len(cases) == 1)
            if following is not None:
                ahead = reader.submit(read, following)
            with outcome.timed("network"):
                answer = _answer(outcome, case, study, system, alone=len(cases) == 1) if study else None
            if writing:
                with outcome.timed("waiting"):
                    outcome.done.extend(writing.result())
            writing = writer.submit(timed_write, study, answer) if study and answer else None
            advance(1, note=case.study)
        if writing:
            outcome.done.extend(writing.result())
    return outcome


def _answer(outcome: Outcome, case: Case, study: Study, system: System, *, alone: bool) -> Answer | None:
    try:
        return system.answer(study)
    except UserError as error:
        _failed(outcome, case, error, alone=alone)
        return None


def _failed(outcome: Outcome, case: Case, error: UserError, *, alone: bool) -> None:
    outcome.failed.append({"study": case.study, "file": _file(case, str(error)), "reason": str(error)})
    if not alone:
        console.warn(f"study {case.study} is left out: {error}")


def _read(case: Case, system: System, *, allow_missing: bool) -> Study:
    missing = [word for word in system.needs if word not in case.images]
    if missing and case.images and not allow_missing:
        error = case.without("image", missing[0], case.images)
        raise UserError(f"{error}; --allow-missing predicts all the same, with 0 there")
    return read_with(system.preparation, case, system.needs, allow_missing=allow_missing)


def _file(case: Case, reason: str) -> str | None:
    """The longest of the study's paths that the reason names."""
    return max((str(path) for path in case.images.values() if str(path) in reason), key=len, default=None)
