"""What a run is judged by while it trains: the loss on held-back examples, Dice and HD95 on held-back studies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxstroke import devices
from jaxstroke.data import stream
from jaxstroke.data.cache import Cache
from jaxstroke.experiment import Experiment
from jaxstroke.inference.postprocess import largest_component
from jaxstroke.inference.predictor import Predictor
from jaxstroke.metrics import overlap, surface
from jaxstroke.training.state import TrainState

# The scores by which a best checkpoint can be chosen (`Evaluation.choose_by`).
CHOICES = ("dice", "slice_dice_empty_1", "slice_dice_empty_0")


class Validation:
    """Compiled once for a run; whole studies are judged on their prepared grid, the mean over studies and targets."""

    def __init__(
        self,
        experiment: Experiment,
        cache: Cache,
        studies: tuple[str, ...],
        validation_step: Callable[..., Any],
        over: Mesh,
    ) -> None:
        self._experiment = experiment
        self._cache = cache
        self._studies = studies
        self._step = validation_step
        self._mesh = over
        self._predictor: Predictor | None = None

    def run(
        self, state: TrainState, asked_to_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Returns validation_loss, the scores of `CHOICES`, and hd95_mm, the mean over studies where it is defined.

        None where it was asked to stop in between, which is looked at after each study and each batch.
        """
        scores = self._scores(state, asked_to_stop)
        loss = None if asked_to_stop() else self._loss(state, asked_to_stop)
        if loss is None:
            return None
        means = {name: _mean_defined(np.concatenate(values)) for name, values in scores.items()}
        return {"validation_loss": loss, **means}

    def _loss(self, state: TrainState, asked_to_stop: Callable[[], bool]) -> float | None:
        total, count = 0.0, 0.0
        for batch in stream.ordered_batches(self._cache, self._studies, self._experiment.data):
            figures = self._step(state, devices.to_devices(batch, self._mesh))
            total += float(figures["loss"]) * float(figures["count"])
            count += float(figures["count"])
            if asked_to_stop():
                return None
        return total / max(count, 1.0)

    def _scores(self, state: TrainState, asked_to_stop: Callable[[], bool]) -> dict[str, list[np.ndarray]]:
        """By score, an array for each study and target: one value, or one for each slice."""
        if self._predictor is None:
            self._predictor = Predictor(self._experiment, state.variables())
        self._predictor.replace_weights(state.variables())
        settings = self._experiment.evaluation
        scores: dict[str, list[np.ndarray]] = {name: [] for name in (*CHOICES, "hd95_mm")}
        for name in self._studies:
            if asked_to_stop():
                break
            spacing_mm = self._cache.study(name).spacing_mm
            masks = self._cache.array(name, "masks")
            probabilities = self._predictor.prepared(self._cache.array(name, "images")).probabilities
            for head in range(probabilities.shape[-1]):
                mask = probabilities[..., head] > settings.threshold
                mask = largest_component(mask) if settings.largest_component else mask
                reference = np.asarray(masks[..., head]) > 0
                scores["dice"].append(np.array([overlap.dice(mask, reference)]))
                scores["slice_dice_empty_1"].append(overlap.slice_dice(mask, reference, empty=1.0))
                scores["slice_dice_empty_0"].append(overlap.slice_dice(mask, reference, empty=0.0))
                scores["hd95_mm"].append(np.array([surface.hd95_mm(mask, reference, spacing_mm)]))
        return scores


def _mean_defined(values: np.ndarray) -> float:
    defined = values[np.isfinite(values)]
    return float(np.mean(defined)) if defined.size else math.nan
