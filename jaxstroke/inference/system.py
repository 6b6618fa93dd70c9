"""A system: anything that takes a study and answers with probabilities on the study's own grid.

A trained network and a threshold rule are both systems, so they are evaluated by the same code on the same studies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxstroke.data.layouts import find_layout
from jaxstroke.data.prepare import head_of
from jaxstroke.data.study import Study
from jaxstroke.experiment import Experiment, Preparation
from jaxstroke.inference import members
from jaxstroke.inference.doubts import Doubts
from jaxstroke.inference.ensemble import Ensemble
from jaxstroke.inference.members import Member
from jaxstroke.inference.postprocess import mask_of
from jaxstroke.inference.predictor import Answer
from jaxstroke.models import registry
from jaxstroke.runs.calibration import Calibration
from jaxstroke.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class System:
    """`answer(study)` holds probabilities (D, H, W, K), a channel for each target; `mask` turns one into the mask."""

    name: str
    title: str
    needs: tuple[str, ...]  # modalities
    answer: Callable[[Study], Answer]
    mask: Callable[[np.ndarray, Sequence[float]], np.ndarray]  # and the spacing in mm
    graded: bool = True  # whether the probabilities are more than a mask
    cost: Callable[[], str] = str  # what an answer takes, in words
    study_s: Callable[[], float] = float  # and in seconds
    rule: str = ""  # how `mask` is made, in words
    mirrored: bool = False
    doubts: Doubts = Doubts()
    preparation: Preparation = Preparation()  # of the studies that it answers


def trained(
    runs: Sequence[RunFolder],
    *,
    intermediates: Sequence[str] = (),
    choose_by: str = "",
    mirrored: bool | None = None,
    mirrored_uncalibrated: bool = False,
) -> tuple[System, Experiment]:
    """The networks of the runs with their best weights, compiled at their first study, and the first's experiment.

    `Predictor` explains `intermediates`, `Ensemble` how several answer and what `mirrored` is; None leaves that to how
    the runs were calibrated, and `mirrored_uncalibrated` holds where they were not.
    """
    together = members.read(runs, choose_by=choose_by)
    joint = members.joint(together)
    if mirrored is None:
        own = [one.calibration for one in together if one.calibration]
        calibrated = [one.mirrored for one in ([joint] if joint else own)]
        mirrored = any(calibrated) if calibrated else mirrored_uncalibrated
    return of_members(together, intermediates=intermediates, mirrored=mirrored, joint=joint)


def of_members(
    together: Sequence[Member],
    *,
    mirrored: bool,
    joint: Calibration | None = None,
    intermediates: Sequence[str] = (),
) -> tuple[System, Experiment]:
    """The same for members that were read; `joint` was calibrated for their mean, else each has its own."""
    first, rule = together[0].experiment, joint.rule if joint else members.rule_of(together)
    ensemble = Ensemble(together, mirrored=mirrored, joint=joint, intermediates=intermediates)
    names = dict.fromkeys(one.experiment.name for one in together)
    name = " + ".join(names) + (f" ({len(together)} runs)" if len(together) > 1 else "")
    needs = tuple(dict.fromkeys(word for one in together for word in one.experiment.data.channels))
    system = System(
        name,
        first.title,
        needs,
        ensemble.study,
        lambda probabilities, spacing_mm: mask_of(probabilities, rule, spacing_mm),
        cost=ensemble.cost,
        study_s=ensemble.study_s,
        rule=members.told_rule(together, joint),
        mirrored=mirrored,
        doubts=Doubts((joint,) if joint else tuple(one.calibration for one in together if one.calibration)),
        preparation=first.data.preparation,
    )
    return system, first


def rules(modalities: Iterable[str], targets: int) -> list[System]:
    """The threshold rules that a data set with these modalities can be judged by."""
    found = [rule for rule in registry.rules().values() if set(rule.needs) <= set(modalities)]
    return [_rule(rule, targets) for rule in found]


def _rule(rule: registry.Rule, targets: int) -> System:
    def answer(study: Study) -> Answer:
        images = {word: study.images[word] for word in rule.needs}
        score = rule.predict(images, head_of(images, find_layout(study.case.layout)), study.spacing_mm)
        return Answer(np.repeat(np.asarray(score, np.float32)[..., None], targets, axis=-1), maps={})

    return System(rule.name, rule.title, rule.needs, answer, lambda score, spacing_mm: score > 0.5, graded=False)
