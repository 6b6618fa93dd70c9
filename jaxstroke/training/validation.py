"""What a run is judged by while it trains: the loss on held-back examples, Dice and HD95 on held-back studies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxstroke import sharding
from jaxstroke.data import stream
from jaxstroke.data.cache.format import Cache
from jaxstroke.errors import UserError
from jaxstroke.inference.postprocess import mask_of
from jaxstroke.inference.predictor import Predictor
from jaxstroke.metrics import overlap, surface
from jaxstroke.process import job
from jaxstroke.runs.calibration import Rule
from jaxstroke.training.program import Program
from jaxstroke.training.state import TrainState

# The scores by which a best checkpoint can be chosen (`Evaluation.choose_by`).
CHOICES = ("dice", "slice_dice_empty_1", "slice_dice_empty_0")


class Validation:
    """Compiled once for a run; whole studies are judged on their prepared grid, the mean over studies and targets."""

    def __init__(
        self,
        program: Program,
        cache: Cache,
        studies: tuple[str, ...],
        look: Callable[[str, np.ndarray, np.ndarray], None] | None = None,
    ) -> None:
        """`look` is shown each study that this process judges: mask and probabilities (D, H, W) of its first target."""
        self.program = program
        self._experiment = program.experiment
        patience_epochs = self._experiment.training.patience_epochs
        if not studies and patience_epochs is not None:
            raise UserError(
                f"training.patience_epochs={patience_epochs}: there is no validation study whose "
                "loss could stop falling; set it to none, or data.validation_fraction above 0"
            )
        self._cache = cache
        self._studies = studies
        self._look = look
        self._rows = sharding.own_rows(self._experiment.data.batch)
        self._predictor: Predictor | None = None

    def run(self, state: TrainState, asked_to_stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Returns validation_loss, the scores of `CHOICES`, and hd95_mm, the mean over studies where it is defined.

        All of them are undefined without validation studies.  None where it was asked to stop in between, which is
        looked at after each study and each batch: equally often in every process, each of which judges its share of the
        studies.
        """
        if not self._studies:  # nothing to choose by: the last weights count
            return dict.fromkeys(("validation_loss", *CHOICES, "hd95_mm"), math.nan)
        scores = self._scores(state, asked_to_stop)
        loss = None if scores is None else self._loss(state, asked_to_stop)
        if scores is None or loss is None:
            return None
        means = {name: _mean_defined([v for study in scores for v in study[name]]) for name in (*CHOICES, "hd95_mm")}
        return {"validation_loss": loss, **means}

    def _loss(self, state: TrainState, asked_to_stop: Callable[[], bool]) -> float | None:
        total, count = 0.0, 0.0
        data = self._experiment.data
        for batch in stream.ordered_batches(self._cache, self._studies, data, rows=self._rows):
            figures = self.program.validate(state, sharding.to_devices(batch, self.program.mesh))
            total += float(figures["loss"]) * float(figures["count"])
            count += float(figures["count"])
            if asked_to_stop():
                return None
        return total / max(count, 1.0)

    def _scores(self, state: TrainState, asked_to_stop: Callable[[], bool]) -> list[dict[str, list[float]]] | None:
        """Of each study by score: a value for each target, or for each slice."""
        weights = sharding.on_local_device(state.variables())
        if self._predictor is None:
            self._predictor = Predictor(self._experiment, weights)
        self._predictor.replace_weights(weights)
        others, own = job.count(), {}
        for first in range(0, len(self._studies), others):
            number = first + job.index()
            if number < len(self._studies):
                own[number] = self._judge(self._predictor, self._studies[number])
            if asked_to_stop():
                return None
        judged = {int(number): found for part in job.gather(own) for number, found in part.items()}
        return [judged[number] for number in range(len(self._studies))]

    def _judge(self, predictor: Predictor, study: str) -> dict[str, list[float]]:
        spacing_mm = self._cache.study(study).spacing_mm
        masks = self._cache.array(study, "masks")
        probabilities = predictor.prepared(self._cache.array(study, "images")).probabilities
        scores: dict[str, list[float]] = {name: [] for name in (*CHOICES, "hd95_mm")}
        for target in range(probabilities.shape[-1]):
            mask = mask_of(probabilities[..., target], Rule.of(self._experiment.evaluation), spacing_mm)
            reference = np.asarray(masks[..., target]) > 0
            if target == 0 and self._look is not None:
                self._look(study, mask, probabilities[..., target])
            scores["dice"].append(overlap.dice(mask, reference))
            scores["slice_dice_empty_1"] += overlap.slice_dice(mask, reference, empty=1.0).tolist()
            scores["slice_dice_empty_0"] += overlap.slice_dice(mask, reference, empty=0.0).tolist()
            scores["hd95_mm"].append(surface.hd95_mm(mask, reference, spacing_mm))
        return scores


def own_studies(studies: tuple[str, ...]) -> tuple[str, ...]:
    """Those that this process judges."""
    return studies[job.index() :: job.count()]


def _mean_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return float(np.mean(defined)) if defined else math.nan
