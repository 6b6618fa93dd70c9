"""What lies around a training step, timed on phantoms: preparation, the stream, a study's prediction by stage, scores,
and how long a training stands still to save."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstroke import user_cache
from jaxstroke.benchmarks.clock import in_turn
from jaxstroke.data import stream
from jaxstroke.data.cache.building import build_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.prepare import prepare, restore
from jaxstroke.data.source import open_source
from jaxstroke.experiment import Experiment
from jaxstroke.files.nifti import write_volume
from jaxstroke.inference.predictor import Predictor
from jaxstroke.metrics import scorecard
from jaxstroke.runs.checkpoint import Checkpoints
from jaxstroke.training.state import TrainState

CASES = 6  # phantoms that the stream reads from
SUBJECT_SLICES = 22
_BATCHES = 20


@dataclasses.dataclass(frozen=True)
class Studies:
    """Prepared phantoms of an experiment."""

    experiment: Experiment
    cases: tuple[Any, ...]
    cache: Cache

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(study.study for study in self.cache.studies)

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        return stream.training_batches(self.cache, self.names, self.experiment.data, seed=0)


def studies(experiment: Experiment) -> Studies:
    """A few phantoms as the experiment wants them, prepared."""
    data = dataclasses.replace(experiment.data, phantom_cases=CASES, derived=())
    experiment = dataclasses.replace(experiment, data=data)
    source = open_source(data, None, user_cache.folder())
    return Studies(experiment, source.cases, build_cache(source.cases, data, user_cache.folder() / "prepared"))


def stream_slices_per_second(of: Studies) -> float:
    """How many slices the stream gives when nothing takes time but the stream."""
    batches = of.batches()
    next(batches)
    begun, slices = time.perf_counter(), 0
    for _ in range(_BATCHES):
        batch = next(batches)
        slices += _slices(batch, of.experiment)
    return slices / (time.perf_counter() - begun)


def _slices(batch: dict[str, np.ndarray], experiment: Experiment) -> int:
    return len(batch["images"]) * experiment.data.kind.slices(experiment.data.depth)


class Subject:
    """One study from its files to its mask and scores, and a whole head of slices through the network; all compiled."""

    def __init__(self, of: Studies, state: TrainState) -> None:
        self._experiment, self._case = of.experiment, of.cases[0]
        data = of.experiment.data
        self._study = read_with(data.preparation, self._case, data.channels, data.targets)
        self._prepared = prepare(self._study, data)
        variables = jax.tree.map(jnp.copy, state.variables())  # a step gives its state's memory away
        self._predictor = Predictor(of.experiment, variables)
        self._probabilities = self._predictor.prepared(self._prepared.images).probabilities
        self._weights = jax.tree.map(np.asarray, variables)

    def stage_seconds(self, *, rounds: int) -> dict[str, float]:
        """Seconds of each stage.  `swap` brings another member's weights to the device, once a member and study."""
        study, data, inverse = self._study, self._experiment.data, self._prepared.inverse
        words, targets = data.channels, data.targets
        header, file_order = study.grid.header, study.grid.to_file
        mask, reference = restore(self._probabilities, inverse)[..., 0] > 0.5, study.masks[targets[0]]
        stages: dict[str, Callable[[], Any]] = {
            "read": lambda: read_with(data.preparation, self._case, words, targets),
            "prepare": lambda: prepare(study, data),
            "swap": lambda: jax.block_until_ready(jax.device_put(self._weights)),
            "network": lambda: self._predictor.prepared(self._prepared.images),
            "restore": lambda: restore(self._probabilities, inverse),
            "write": lambda: write_volume(out / "mask.nii.gz", file_order(mask.astype(np.uint8)), like=header),
            "score": lambda: scorecard.score(mask, reference, study.spacing_mm),
        }
        with tempfile.TemporaryDirectory(prefix="jaxstroke-bench-") as folder:
            out = Path(folder)
            return {name: times.best for name, times in in_turn(stages, rounds=rounds).items()}

    def network_seconds(self, *, rounds: int) -> float:
        """Seconds of as many prepared slices as DME-Net's paper times a subject with, there .7 s on an A100."""
        images = self._prepared.images
        head = np.resize(images, (SUBJECT_SLICES, *images.shape[1:]))
        return in_turn({"network": lambda: self._predictor.prepared(head)}, rounds=rounds)["network"].best


def checkpoint_seconds(state: TrainState) -> dict[str, float]:
    """How long a training stands still for a checkpoint, and how long until it is sealed on disk."""
    with tempfile.TemporaryDirectory(prefix="jaxstroke-bench-") as folder:
        checkpoints = Checkpoints(Path(folder) / "checkpoints")
        checkpoints.save(1, state.trees(), {"best_steps": {}})  # makes the writer
        checkpoints.settle()
        begun = time.perf_counter()
        checkpoints.save(2, state.trees(), {"best_steps": {}})
        stalled = time.perf_counter() - begun
        checkpoints.close()
        return {"stall_s": stalled, "sealed_s": time.perf_counter() - begun}
