"""Judging systems on studies: every system sees the same studies, and every score is taken on the study's own grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxstroke.data.case import Case
from jaxstroke.data.study import read_study
from jaxstroke.inference.system import System
from jaxstroke.metrics import scorecard
from jaxstroke.pages.seen import Seen

Row = dict[str, Any]


def evaluate(
    systems: Sequence[System],
    cases: Sequence[Case],
    *,
    images: Sequence[str],
    targets: Sequence[str],
    advance: Callable[..., None],
    look: Callable[[Seen], None] | None = None,
) -> list[Row]:
    """Returns a row of scores for each study, annotation and system; every study is read once.

    `look` is shown what was seen of each study, for pictures and pages.

    A system has an answer for each target that it was trained on; where other readers annotated the same image, the
    answer is judged against each of them.
    """
    rows = []
    for case in cases:
        readers = [annotations_of(target, case) for target in targets]
        study = read_study(case, images=tuple(images), masks=tuple(one for found in readers for one in found))
        seen = Seen(study, predictions={}, probabilities={}, maps={})
        for system in systems:
            answer = system.answer(study)
            seen = dataclasses.replace(seen, maps={**seen.maps, **answer.maps})
            for index, found in enumerate(readers):
                mask = system.mask(answer.probabilities[..., index])
                for target in found:
                    seen.predictions.setdefault(system.name, {})[target] = mask
                    seen.probabilities.setdefault(target, answer.probabilities[..., index])
                    scores = scorecard.score(mask, study.masks[target], study.spacing_mm)
                    about = {"study": case.study, "patient": case.patient, "target": target, "system": system.name}
                    rows.append({**about, **scores})
            advance(1, note=f"{case.study} {system.name}")
        if look is not None:
            look(seen)
    return rows


def annotations_of(target: str, case: Case) -> list[str]:
    """The annotations of a case that were drawn on the target's image: ADC/R1 and ADC/R2 for either; `lesion` alone."""
    image = target.partition("/")[0]
    return sorted(word for word in case.masks if word.partition("/")[0] == image)


def summaries(rows: Sequence[Row]) -> list[Row]:
    """One line for each target and system, in the order in which they first occur."""
    lines = dict.fromkeys((row["target"], row["system"]) for row in rows)
    return [
        {
            "target": target,
            "system": system,
            "scores": scorecard.summarise([row for row in rows if (row["target"], row["system"]) == (target, system)]),
        }
        for target, system in lines
    ]
