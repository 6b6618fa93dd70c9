"""Choosing a run's rule from probability to mask on its validation studies, and the temperature of its probabilities.

Every study is predicted once and let go.  Each threshold of the grid is applied, lesions are counted, and from the
counts every smallest lesion, and the largest component alone, follow without another mask.  By `dice` the rule of the
highest mean Dice is taken; by `lesion_f1` that of the highest mean lesion-wise F1 among the rules whose Dice is no
lower than that of the run's rule before.  Of equals the one nearest to the rule before is taken.

The validation studies chose the checkpoint too, so what is gained on them is a little flattered; what it is worth is
seen on studies that were held out.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.prepare import head_of, prepare
from jaxstroke.data.study import Study
from jaxstroke.experiment import Data
from jaxstroke.inference import unlike
from jaxstroke.inference.system import System
from jaxstroke.metrics import lesions
from jaxstroke.metrics.conformal import residual
from jaxstroke.metrics.overlap import volume_ml, voxel_ml
from jaxstroke.metrics.temperature import Logits, best_temperature, scaled
from jaxstroke.runs.calibration import Rule

Score = Literal["dice", "lesion_f1"]
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
SMALLEST_ML = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
_DIGITS = 9  # of equals


@dataclasses.dataclass(frozen=True)
class Means:
    """Over studies and targets."""

    dice: float
    lesion_f1: float


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Attributes:
    rule: the best, on probabilities after the temperature.
    before, after: the means of the run's rule before, and of the best.
    logits: the voxels of all heads, before the temperature.
    residuals: of each target's volumes by the best rule, a study each (`metrics.conformal`).
    disagreement: of each study, where there are several passes.
    """

    rule: Rule
    temperature: float
    before: Means
    after: Means
    logits: Logits
    residuals: dict[str, tuple[float, ...]]
    disagreement: list[float]


def calibrate(
    system: System,
    cases: Sequence[Case],
    targets: Sequence[str],
    *,
    before: Rule,
    by: Score,
    advance: Callable[..., None],
) -> Found:
    """The rule and the temperature for what `system` answers; `before` is the rule that it has."""
    rules = _rules(before)
    scores: dict[str, list[np.ndarray]] = {target: [] for target in targets}  # of each study: (rules, 3)
    annotated_ml: dict[str, list[float]] = {target: [] for target in targets}
    disagreement: list[float] = []
    logits = None
    for case in cases:
        study = read_with(system.preparation, case, system.needs, tuple(targets))
        answer = system.answer(study)
        probabilities, head = answer.probabilities, _head(study)
        if unlike.DISAGREEMENT in answer.figures:
            disagreement.append(answer.figures[unlike.DISAGREEMENT])
        for index, target in enumerate(targets):
            reference = study.masks[target] > 0
            annotated_ml[target].append(volume_ml(reference, study.spacing_mm))
            scores[target].append(_scores(probabilities[..., index], reference, study.spacing_mm, rules))
            own = Logits.of(probabilities[..., index][head], reference[head])
            logits = own if logits is None else logits + own
        advance(1, note=case.study)
    assert logits is not None
    over_all = np.mean([one for own in scores.values() for one in own], axis=0)
    means = [Means(float(dice), float(f1)) for dice, f1, _ in over_all]
    best = _best(rules, means, before, by)
    temperature = best_temperature(logits)
    threshold = float(scaled(np.float64(rules[best].threshold), temperature))
    rule = dataclasses.replace(rules[best], threshold=threshold)
    residuals = {
        target: tuple(residual(one[best, 2], g) for one, g in zip(scores[target], annotated_ml[target], strict=True))
        for target in targets
    }
    return Found(rule, temperature, means[rules.index(before)], means[best], logits, residuals, disagreement)


def seen_in(cases: Sequence[Case], data: Data, *, advance: Callable[..., None]) -> dict[str, tuple[float, float]]:
    """The range of each figure of the studies (`unlike`), of which images alone are read."""

    def figures() -> Iterator[unlike.Figures]:
        for case in cases:
            study = read_with(data.preparation, case, data.channels)
            yield unlike.figures_of(study, prepare(study, data), data)
            advance(1, note=case.study)

    return unlike.ranges(figures())


def _rules(before: Rule) -> list[Rule]:
    thresholds = sorted({*THRESHOLDS, before.threshold})
    smallest = sorted({*SMALLEST_ML, before.smallest_lesion_ml})
    return [Rule(*one) for one in itertools.product(thresholds, smallest, (False, True))]


def _best(rules: Sequence[Rule], means: Sequence[Means], before: Rule, by: Score) -> int:
    floor = round(means[rules.index(before)].dice, _DIGITS)
    allowed = [n for n, one in enumerate(means) if by == "dice" or round(one.dice, _DIGITS) >= floor]

    def rank(number: int) -> tuple[float, ...]:
        rule = rules[number]
        return (
            -round(getattr(means[number], by), _DIGITS),
            rule.largest_component != before.largest_component,
            abs(rule.smallest_lesion_ml - before.smallest_lesion_ml),
            abs(rule.threshold - before.threshold),
        )

    return min(allowed, key=rank)


def _head(study: Study) -> np.ndarray:
    planes = {word: image for word, image in study.images.items() if image.ndim == 3}
    shape = next(iter(study.masks.values())).shape
    return head_of(planes, find_layout(study.case.layout)) if planes else np.ones(shape, bool)


def _scores(
    probabilities: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], rules: Sequence[Rule]
) -> np.ndarray:
    """(rules, 3): Dice, lesion-wise F1 and volume in mL of the mask that each rule makes."""
    found = {
        threshold: lesions.regions(probabilities > threshold, reference)
        for threshold in dict.fromkeys(rule.threshold for rule in rules)
    }
    return np.array([_of_kept(found[rule.threshold], rule, voxel_ml(spacing_mm)) for rule in rules])


def _of_kept(found: lesions.Regions, rule: Rule, one_voxel_ml: float) -> tuple[float, float, float]:
    """Dice, F1 and volume where only the components stay that the rule keeps."""
    sizes = found.predicted_voxels.copy()
    sizes[0] = 0
    keep = (sizes > 0) & (sizes * one_voxel_ml >= rule.smallest_lesion_ml)
    if rule.largest_component and keep.any():
        keep &= np.arange(len(sizes)) == sizes.argmax()
    overlaps = found.overlaps[keep[found.overlaps[:, 1]]]
    kept = lesions.Regions(found.reference_voxels, np.concatenate([[0], sizes[keep]]), overlaps)
    voxels = int(sizes[keep].sum()) + int(found.reference_voxels[1:].sum())
    dice = 2 * int(overlaps[:, 2].sum()) / voxels if voxels else 1.0
    return dice, lesions.touching(kept).f1, int(sizes[keep].sum()) * one_voxel_ml
