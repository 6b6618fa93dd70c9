"""A system: anything that takes a study and answers with probabilities on the study's own grid.

A trained network and a threshold rule are both systems, so they are evaluated by the same code on the same studies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import jax
import numpy as np

from jaxstroke import devices
from jaxstroke.data.study import Study
from jaxstroke.experiment import Experiment
from jaxstroke.inference.postprocess import largest_component
from jaxstroke.inference.predictor import Predictor
from jaxstroke.models import apply, registry
from jaxstroke.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class System:
    """`probabilities(study)` is (D, H, W, K), one channel a target; `mask` turns one channel into the answer."""

    name: str
    title: str
    needs: tuple[str, ...]  # modalities
    probabilities: Callable[[Study], np.ndarray]
    mask: Callable[[np.ndarray], np.ndarray]


def trained(run: RunFolder) -> tuple[System, Experiment]:
    """The network of a run with its best weights, compiled at its first study."""
    experiment = run.experiment()
    network = apply.build(experiment)
    shapes = jax.eval_shape(lambda key: apply.initialise(network, experiment.data, key), jax.random.key(0))
    whole = devices.replicated(devices.mesh())
    restored = run.checkpoints().restore_best({"weights": devices.placed({"batch_stats": {}, **shapes}, whole)})
    predictor = Predictor(experiment, restored.trees["weights"])
    settings = experiment.evaluation

    def mask(probabilities: np.ndarray) -> np.ndarray:
        found = probabilities > settings.threshold
        return largest_component(found) if settings.largest_component else found

    return System(experiment.name, experiment.title, experiment.data.channels, predictor.study, mask), experiment


def rules(modalities: Iterable[str], targets: int) -> list[System]:
    """The threshold rules that a data set with these modalities can be judged by."""
    found = [rule for rule in registry.rules().values() if set(rule.needs) <= set(modalities)]
    return [_rule(rule, targets) for rule in found]


def _rule(rule: registry.Rule, targets: int) -> System:
    def probabilities(study: Study) -> np.ndarray:
        score = rule.predict({word: study.images[word] for word in rule.needs}, study.spacing_mm)
        return np.repeat(np.asarray(score, np.float32)[..., None], targets, axis=-1)

    return System(rule.name, rule.title, rule.needs, probabilities, lambda score: score > 0.5)
