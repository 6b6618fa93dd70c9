"""A run of two stages in use: the first stage's mean synthetic map goes into the second beside the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxstroke.data.prepare import prepare, restore
from jaxstroke.data.study import Study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Cascade, Experiment
from jaxstroke.inference.predictor import Answer, Predictor, available
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


def mean_map(predictors: Sequence[Predictor], images: np.ndarray) -> np.ndarray:
    """The mean synthetic map (D, H, W) of first-stage networks for prepared images (D, H, W, C)."""
    return np.stack([predictor.prepared(images).maps[SYNTHETIC] for predictor in predictors]).mean(axis=0)


class CascadePredictor:
    """Both stages as one predictor; the map that goes between them can be asked for as "synthetic"."""

    def __init__(self, run: RunFolder, *, intermediates: Sequence[str] = (), choose_by: str = "") -> None:
        experiment = run.experiment()
        self._data = experiment.data
        folders = stage1_folders(run.path, experiment)
        self._first = [Predictor.of_run(folder, intermediates=(SYNTHETIC,)) for folder in folders]
        others = [name for name in intermediates if name != SYNTHETIC]
        self._second = Predictor.of_run(run, intermediates=others, choose_by=choose_by)
        self._show_map = SYNTHETIC in intermediates

    def study(self, study: Study) -> Answer:
        prepared = prepare(study, self._data)
        synthetic = mean_map(self._first, prepared.images)[..., None]
        answer = self._second.prepared(np.concatenate([prepared.images, synthetic], axis=-1))
        shown = {**answer.maps, **({SYNTHETIC: synthetic[..., 0]} if self._show_map else {})}
        maps = {name: restore(values[..., None], prepared.inverse)[..., 0] for name, values in shown.items()}
        return Answer(restore(answer.probabilities, prepared.inverse), maps)
