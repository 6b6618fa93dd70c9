"""Many studies in a row: one that cannot be read or predicted is told and kept on record, and the others go on."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jaxstroke import console
from jaxstroke.data.case import Case
from jaxstroke.data.study import Study, read_study
from jaxstroke.errors import UserError
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was told of each study that was written, and of each that failed: study, file (or None), reason."""

    done: list[dict[str, Any]]
    failed: list[dict[str, Any]]


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
    While a study is predicted the next is read, and no more than these two are held.
    """
    outcome = Outcome([], [])
    read = functools.partial(_read, system=system, allow_missing=allow_missing)
    for case, found in zip(cases, _one_ahead(cases, read), strict=True):
        try:
            study = found.result()
            answer = system.answer(study)
        except UserError as error:
            outcome.failed.append({"study": case.study, "file": _file(case, str(error)), "reason": str(error)})
            if len(cases) > 1:
                console.warn(f"study {case.study} is left out: {error}")
        else:
            outcome.done.extend(write(study, answer))
        advance(1, note=case.study)
    return outcome


def _one_ahead(cases: Sequence[Case], read: Callable[[Case], Study]) -> Iterator[Future[Study]]:
    """What is read of each case, or why it cannot be; the reading of the next begins when one is asked for."""
    with ThreadPoolExecutor(1) as reader:
        following = iter(cases)
        waiting = [reader.submit(read, case) for case in itertools.islice(following, 1)]
        for _ in cases:
            found = waiting.pop()
            found.exception()  # waits for it, so that no more than one is read ahead
            waiting += [reader.submit(read, case) for case in itertools.islice(following, 1)]
            yield found


def _read(case: Case, system: System, *, allow_missing: bool) -> Study:
    missing = [word for word in system.needs if word not in case.images]
    if missing and case.images and not allow_missing:
        error = case.without("image", missing[0], case.images)
        raise UserError(f"{error}; --allow-missing predicts all the same, with 0 there")
    return read_study(case, images=system.needs, allow_missing=allow_missing)


def _file(case: Case, reason: str) -> str | None:
    """The longest of the study's paths that the reason names."""
    return max((str(path) for path in case.images.values() if str(path) in reason), key=len, default=None)
