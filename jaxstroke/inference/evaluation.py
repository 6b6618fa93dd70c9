"""Judging systems on studies: every system sees the same studies, and every score is taken on the study's own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxstroke.data.case import Case
from jaxstroke.data.study import read_study
from jaxstroke.inference.system import System
from jaxstroke.metrics import scorecard

Row = dict[str, Any]


def evaluate(
    systems: Sequence[System],
    cases: Sequence[Case],
    *,
    images: Sequence[str],
    targets: Sequence[str],
    advance: Callable[..., None],
) -> list[Row]:
    """Returns a row of scores for each study, target and system; every study is read once."""
    rows = []
    for case in cases:
        study = read_study(case, images=tuple(images), masks=tuple(targets))
        for system in systems:
            probabilities = system.answer(study).probabilities
            for head, target in enumerate(targets):
                mask = system.mask(probabilities[..., head])
                scores = scorecard.score(mask, study.masks[target], study.spacing_mm)
                rows.append(
                    {"study": case.study, "patient": case.patient, "target": target, "system": system.name, **scores}
                )
            advance(1, note=f"{case.study} {system.name}")
    return rows


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
