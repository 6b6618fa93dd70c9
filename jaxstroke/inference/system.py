"""A system: anything that takes a study and answers with probabilities on the study's own grid.

A trained network and a threshold rule are both systems, so they are evaluated by the same code on the same studies.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxstroke.data.layouts import find_layout
from jaxstroke.data.prepare import head_of
from jaxstroke.data.study import Study
from jaxstroke.experiment import Experiment
from jaxstroke.inference.cascade import CascadePredictor
from jaxstroke.inference.postprocess import mask_of
from jaxstroke.inference.predictor import Answer, Predictor
from jaxstroke.models import registry
from jaxstroke.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class System:
    """`answer(study)` holds probabilities (D, H, W, K), a channel for each target; `mask` turns one into the mask."""

    name: str
    title: str
    needs: tuple[str, ...]  # modalities
    answer: Callable[[Study], Answer]
    mask: Callable[[np.ndarray], np.ndarray]
    graded: bool = True  # whether the probabilities are more than a mask


def trained(run: RunFolder, *, intermediates: Sequence[str] = (), choose_by: str = "") -> tuple[System, Experiment]:
    """The network of a run with its best weights, compiled at its first study; `Predictor` explains `intermediates`."""
    experiment = run.experiment()
    two_stages = experiment.cascade.stage1_networks > 0
    predictor = (
        CascadePredictor(run, intermediates=intermediates, choose_by=choose_by)
        if two_stages
        else Predictor.of_run(run, intermediates=intermediates, choose_by=choose_by)
    )
    mask = functools.partial(mask_of, evaluation=experiment.evaluation)
    return System(experiment.name, experiment.title, experiment.data.channels, predictor.study, mask), experiment


def rules(modalities: Iterable[str], targets: int) -> list[System]:
    """The threshold rules that a data set with these modalities can be judged by."""
    found = [rule for rule in registry.rules().values() if set(rule.needs) <= set(modalities)]
    return [_rule(rule, targets) for rule in found]


def _rule(rule: registry.Rule, targets: int) -> System:
    def answer(study: Study) -> Answer:
        images = {word: study.images[word] for word in rule.needs}
        score = rule.predict(images, head_of(images, find_layout(study.case.layout)), study.spacing_mm)
        return Answer(np.repeat(np.asarray(score, np.float32)[..., None], targets, axis=-1), maps={})

    return System(rule.name, rule.title, rule.needs, answer, lambda score: score > 0.5, graded=False)
