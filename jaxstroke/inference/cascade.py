"""A run of two stages in use: the first stage's synthetic map goes into the second beside the images.

What a gate finds similar is of no fixed sign: of networks that were trained alike some show lesion bright and some
dark, on backgrounds of their own.  So each network's map is turned, where it must be, so that lesion is bright, and
brought to mean 0 and deviation 1 in the head, as other images are; the mean of several is brought there once more.
Which way round a network's map is, its training studies tell, once: `polarity.json` in its run folder.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.experiment import Cascade, Experiment
from jaxstroke.inference.predictor import Answer, Predictor, available, best_weights
from jaxstroke.runs.folder import RunFolder

SYNTHETIC = "synthetic"
POLARITY = "polarity.json"


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


def recorded_sign(stage: RunFolder) -> int:
    """1 where lesion is bright in a first-stage network's maps, -1 where it is dark."""
    path = stage.path / POLARITY
    if not path.exists():
        raise UserError(
            f"{stage.path}: it holds no {POLARITY}, which says whether lesion is bright or dark in its maps: the "
            "second stage was not reached, or an earlier version trained it on maps as they came; train the cascade "
            "with --fresh"
        )
    sign = files.read_sealed(path).get("sign")
    if sign not in (1, -1):
        raise UserError(f"{path}: it is damaged (sign is {sign!r}, and 1 or -1 is expected); train with --fresh")
    return sign


def aligned_map(signed: Iterable[tuple[Predictor, int]], images: np.ndarray) -> np.ndarray:
    """The synthetic map (D, H, W) of first-stage networks, each with its sign, for prepared images (D, H, W, C)."""
    head = head_in(images)
    maps = [sign * _standardised(network.prepared(images).maps[SYNTHETIC], head) for network, sign in signed]
    return _standardised(np.mean(maps, axis=0), head)


def head_in(images: np.ndarray) -> np.ndarray:
    """(D, H, W) of prepared images, which are 0 outside."""
    return (images != 0).any(axis=-1)


def lesion_contrast(values: np.ndarray, lesion: np.ndarray, head: np.ndarray) -> float:
    """Mean in the lesion minus mean in the rest of the head; NaN where there is none of either."""
    marked, rest = values[head & lesion], values[head & ~lesion]
    return float(marked.mean(dtype=np.float64) - rest.mean(dtype=np.float64)) if marked.size and rest.size else math.nan


def _standardised(values: np.ndarray, head: np.ndarray) -> np.ndarray:
    """To mean 0 and deviation 1 in the head, and 0 outside."""
    result = np.zeros(values.shape, np.float32)
    inside = values[head].astype(np.float64)
    if inside.size:
        result[head] = (inside - inside.mean()) / (inside.std() or 1.0)
    return result


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
        synthetic = aligned_map(self._first_stage(), images)[..., None]
        answer = self._second.prepared(np.concatenate([images, synthetic], axis=-1))
        return Answer(
            answer.probabilities, {**answer.maps, **({SYNTHETIC: synthetic[..., 0]} if self._show_map else {})}
        )

    def _first_stage(self) -> Iterator[tuple[Predictor, int]]:
        for weights, sign in zip(self._weights.first, self._weights.signs, strict=True):
            self._first.replace_weights(weights)
            yield self._first, int(sign)


class CascadeWeights(NamedTuple):
    """A pytree: the second stage's weights, and of each network of the first its weights and its map's sign."""

    second: Any
    first: tuple[Any, ...]
    signs: tuple[int, ...]


def cascade_weights(run: RunFolder, experiment: Experiment, *, choose_by: str = "") -> tuple[CascadeWeights, int]:
    """The best weights of both stages, and the step of the second's."""
    second, step = best_weights(run, experiment, choose_by=choose_by)
    stages = stage1_folders(run.path, experiment)
    first = tuple(best_weights(stage, stage.experiment())[0] for stage in stages)
    return CascadeWeights(second, first, tuple(map(recorded_sign, stages))), step
