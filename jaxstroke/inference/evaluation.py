"""Judging systems on studies: every system sees the same studies, and every score is taken on the study's own grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.prepare import head_of
from jaxstroke.experiment import Preparation
from jaxstroke.inference.system import System
from jaxstroke.metrics import scorecard
from jaxstroke.metrics.probability import Reliability
from jaxstroke.metrics.rules import DEFAULT, Rules
from jaxstroke.pages.seen import Seen

Row = dict[str, Any]


def evaluate(
    systems: Sequence[System],
    cases: Sequence[Case],
    *,
    images: Sequence[str],
    targets: Sequence[str],
    advance: Callable[..., None],
    preparation: Preparation = Preparation(),  # noqa: B008
    allow_missing: bool = False,
    look: Callable[[Seen], None] | None = None,
    rules: Rules = DEFAULT,
    reliability: dict[str, Reliability] | None = None,
    keep: Callable[[str, str, str, np.ndarray], None] = lambda study, target, maker, mask: None,
) -> list[Row]:
    """Returns a row of scores for each study, annotation and system; every study is read once.

    `look` is shown what was seen of each study, for pictures and pages; `keep` is given each mask and each annotation,
    with the target that they are of; `reliability` the curve of calibration of each system that answers with more than
    a mask, over the voxels of all heads.

    A system has an answer for each target that it was trained on; where other readers annotated the same image, the
    answer is judged against each of them.  With `allow_missing` a study may lack images, and its rows say which.
    """
    rows: list[Row] = []
    curves = {} if reliability is None else reliability
    for case in cases:
        readers = [annotations_of(target, case) for target in targets]
        drawn_words = tuple(one for found in readers for one in found)
        study = read_with(preparation, case, images, drawn_words, allow_missing=allow_missing)
        seen = Seen(study, predictions={}, probabilities={}, maps={})
        planes = {word: image for word, image in study.images.items() if image.ndim == 3}
        head = head_of(planes, find_layout(case.layout)) if planes else None
        for target, found in zip(targets, readers, strict=True):
            for drawn in found:
                keep(case.study, target, reference_name(drawn), study.masks[drawn])
        for system in systems:
            answer = system.answer(study)
            seen = dataclasses.replace(seen, maps={**seen.maps, **answer.maps})
            for index, found in enumerate(readers):
                mask = system.mask(answer.probabilities[..., index], study.spacing_mm)
                keep(case.study, targets[index], system.name, mask)
                for target in found:
                    seen.predictions.setdefault(system.name, {})[target] = mask
                    seen.probabilities.setdefault(target, answer.probabilities[..., index])
                    scores = scorecard.score(mask, study.masks[target], study.spacing_mm, rules=rules)
                    if system.graded:
                        values = np.clip(answer.probabilities[..., index], 0, 1)
                        more, graded = scorecard.score_probabilities(
                            values, study.masks[target], within=head, rules=rules
                        )
                        scores |= more
                        own = [curves[system.name]] if system.name in curves else []
                        curves[system.name] = sum(own, start=graded.reliability)
                    about = {"study": case.study, "patient": case.patient, "target": target, "system": system.name}
                    about |= {"missing": " ".join(study.missing)} if allow_missing else {}
                    about |= {word: case.facts[word] for word in ("quality",) if case.facts.get(word)}
                    rows.append({**about, "rules": rules.name, **scores, **system.doubts.of_study(answer)})
            advance(1, note=f"{case.study} {system.name}")
        if look is not None:
            look(seen)
    return rows


def reference_name(annotation: str) -> str:
    """What an annotation is called beside systems: `reference R1` of ADC/R1, `reference` where there is one reader."""
    reader = annotation.partition("/")[2]
    return f"reference {reader}" if reader else "reference"


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
