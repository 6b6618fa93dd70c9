"""A run of two stages in use: the first stage's mean synthetic map goes into the second beside the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstroke.errors import UserError
from jaxstroke.experiment import Cascade, Experiment
from jaxstroke.inference.predictor import Answer, Predictor, available, best_weights
from jaxstroke.runs.folder import RunFolder

SYNTHETIC = "synthetic"


def first_stage(experiment: Experiment) -> Experiment:
    """The recipe of the networks that make the synthetic map: the same without it."""
    return dataclasses.replace(
        experiment, data=dataclasses.replace(experiment.data, derived=()), cascade=Cascade(stage1_networks=0)
    )


def checked_first_stage(experiment: Experiment) -> Experiment:
    """The first stage; an error where its network makes no synthetic map, before it is trained for hours."""
    first = first_stage(experiment)
    if not any(path.split("/")[-1] == SYNTHETIC for path in available(first)):
        options = ", ".join(f"model.{name}={value}" for name, value in first.model.options.items())
        raise UserError(
            f"model.name={first.model.name}: with {options or 'no options'} it makes no synthetic map, which a second "
            "stage takes as an image; set cascade.stage1_networks=0 and data.derived=[], or another network"
        )
    return first


def stage1_folders(path: Path, experiment: Experiment) -> list[RunFolder]:
    return [RunFolder(path / f"stage1-{index}") for index in range(experiment.cascade.stage1_networks)]


def mean_map(predictors: Iterable[Predictor], images: np.ndarray) -> np.ndarray:
    """The mean synthetic map (D, H, W) of first-stage networks for prepared images (D, H, W, C)."""
    return np.stack([predictor.prepared(images).maps[SYNTHETIC] for predictor in predictors]).mean(axis=0)


class CascadePredictor:
    """Both stages as one predictor; the map that goes between them can be asked for as "synthetic".

    The networks of the first stage are one compiled program, whose weights are swapped.
    """

    def __init__(self, run: RunFolder, weights: CascadeWeights, *, intermediates: Sequence[str] = ()) -> None:
        experiment = run.experiment()
        first = stage1_folders(run.path, experiment)[0].experiment()
        self._first = Predictor(first, weights.first[0], intermediates=(SYNTHETIC,))
        others = [name for name in intermediates if name != SYNTHETIC]
        self._second = Predictor(experiment, weights.second, intermediates=others)
        self._weights = weights
        self._show_map = SYNTHETIC in intermediates

    def replace_weights(self, weights: CascadeWeights) -> None:
        self._weights = weights
        self._second.replace_weights(weights.second)

    def prepared(self, images: np.ndarray) -> Answer:
        """Answers on the grid of prepared images (D, H, W, C)."""
        synthetic = mean_map(self._first_stage(), images)[..., None]
        answer = self._second.prepared(np.concatenate([images, synthetic], axis=-1))
        return Answer(
            answer.probabilities, {**answer.maps, **({SYNTHETIC: synthetic[..., 0]} if self._show_map else {})}
        )

    def _first_stage(self) -> Iterator[Predictor]:
        for weights in self._weights.first:
            self._first.replace_weights(weights)
            yield self._first


class CascadeWeights(NamedTuple):
    """A pytree: the second stage's weights, and those of each network of the first."""

    second: Any
    first: tuple[Any, ...]


def cascade_weights(run: RunFolder, experiment: Experiment, *, choose_by: str = "") -> tuple[CascadeWeights, int]:
    """The best weights of both stages, and the step of the second's."""
    second, step = best_weights(run, experiment, choose_by=choose_by)
    first = [best_weights(folder, folder.experiment())[0] for folder in stage1_folders(run.path, experiment)]
    return CascadeWeights(second, tuple(first)), step
