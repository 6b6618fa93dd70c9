"""The training loop: feed, step, validate, save, until done, told to stop, or not finite.

What a run computes depends on its experiment and its data alone: batches by global index, random numbers by step,
so a run that was stopped anywhere and started again ends where one never stopped would have ended.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxstroke import sharding
from jaxstroke.data import stream
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.splits import Split
from jaxstroke.errors import UserError
from jaxstroke.process import job
from jaxstroke.runs.folder import RunFolder
from jaxstroke.training.display import Report
from jaxstroke.training.program import Program, compiled
from jaxstroke.training.state import TrainState
from jaxstroke.training.stop_request import StopRequest
from jaxstroke.training.strip import Strip
from jaxstroke.training.trace import Trace
from jaxstroke.training.validation import CHOICES, Validation, own_studies

# Losses are fetched from the device this often; between, the device runs ahead of the host.
_FETCH_EVERY_STEPS = 10


@dataclasses.dataclass
class Progress:
    """What the loop knows beside the state; saved with every checkpoint, so that a resumed run goes on exactly."""

    best_steps: dict[str, int] = dataclasses.field(default_factory=dict)  # by the score that is best there
    best_scores: dict[str, float] = dataclasses.field(default_factory=dict)
    lowest_loss: float | None = None
    lowest_loss_epoch: int = 0
    loss_sum: float = 0.0  # over the steps of the epoch in hand
    loss_count: int = 0

    def judge(self, step: int, figures: dict[str, float]) -> None:
        """Remembers where each score is highest; the first of equals stays."""
        for name in CHOICES:
            value = figures[name]
            if math.isfinite(value) and value > self.best_scores.get(name, -math.inf):
                self.best_scores[name], self.best_steps[name] = value, step

    def add(self, losses: list[float]) -> None:
        for loss in losses:  # one by one: the sum must not depend on how many were fetched at a time
            self.loss_sum += loss
            self.loss_count += 1

    def end_epoch(self) -> float:
        mean = self.loss_sum / max(self.loss_count, 1)
        self.loss_sum, self.loss_count = 0.0, 0
        return mean


class Reason(enum.StrEnum):
    """Why a training ends, as a person is told."""

    ALL_DONE = "all epochs are done"
    ALREADY_DONE = "it had already run to its end"
    NOT_FALLING = "the validation loss had stopped falling"
    ASKED_TO = "it was asked to stop; everything is saved"


@dataclasses.dataclass(frozen=True)
class Ending:
    """How training ended: `code` is what the process should end with; 0 when it ran to its end."""

    step: int
    epoch: int
    reason: Reason
    code: int = 0


class NotFinite(UserError):
    """The loss became NaN or infinite; the text names the steps and the studies of their batches."""


class Training:
    """One run. `start` takes up where it stands, `run` trains from there."""

    def __init__(
        self,
        program: Program,
        cache: Cache,
        split: Split,
        run: RunFolder,
        report: Report,
        trace: Trace | None = None,
    ) -> None:
        self._program = program
        self._experiment = program.experiment
        self._epochs = program.epochs
        self._cache = cache
        self._split = split
        self._run = run
        self._report = report
        self._trace = trace
        self._rows = sharding.own_rows(self._experiment.data.batch)
        own = own_studies(split.validation)
        self._strip = Strip(run.path, cache, own, phantom=report.phantom) if job.first() else None
        self._validation = Validation(program, cache, split.validation, self._strip and self._strip.look)
        every = self._experiment.training.keep_every_epochs
        self._checkpoints = run.checkpoints(
            keep_last=self._experiment.training.keep_last, keep_every_steps=every and every * self._epochs.steps
        )
        self._progress = Progress()
        self._state: Any = None

    @property
    def last_step(self) -> int:
        return self._epochs.last_step

    def start(self) -> int:
        """Takes up the last checkpoint, or draws the first weights; returns the step it stands at."""
        restored = self._checkpoints.restore_last(self._program.shapes.trees())
        if restored is None:
            self._state = self._program.first_state(self._experiment.training.seed)
            self._keep_journal_until(0)
            return 0
        self._state = TrainState.from_trees(restored.trees)
        fields = {field.name for field in dataclasses.fields(Progress)}
        self._progress = Progress(**{name: value for name, value in restored.progress.items() if name in fields})
        # Where its validation is still owed, a row of this very step can only be of a process killed before it saved.
        self._keep_journal_until(restored.step - self._owes_validation(restored.step))
        return restored.step

    def _keep_journal_until(self, step: int) -> None:
        if job.first():
            self._run.journal.keep_until(step)

    def run(self, first_step: int) -> Ending:
        """Trains to the end; on a signal, saves and returns; on a non-finite loss, raises `NotFinite`."""
        if not self._owes_validation(first_step):
            if first_step >= self.last_step:
                return self._ending(first_step, Reason.ALREADY_DONE)
            if self._epochs.ends_with(first_step) and self._out_of_patience(self._epochs.finished(first_step)):
                return self._ending(first_step, Reason.NOT_FALLING)
        if job.count() > 1:
            self._program = self._validation.program = compiled(self._program)
        with StopRequest(self._program.mesh) as stop:
            try:
                ending = self._steps(first_step, self.last_step, stop)
            finally:
                self._checkpoints.close()
                if self._trace:
                    self._trace.close()
        self._run.check_there()
        # Asked in the very last step, the run is done, but whoever started it is still asked to stop.
        return dataclasses.replace(ending, code=ending.code or stop.agreed() or 0)

    def _steps(self, first_step: int, last_step: int, stop: StopRequest) -> Ending:
        batches = self._batches(first_step)
        pending: list[jax.Array] = []
        self._report.begin(first_step, last_step, self._epochs.steps)
        if self._owes_validation(first_step) and self._end_epoch(first_step, self._rate_at(first_step - 1), stop):
            return self._ending(first_step, Reason.NOT_FALLING)
        since, seen = time.monotonic(), 0
        for step in range(first_step, last_step):
            if self._trace:
                self._trace.before(step)
            batch = next(batches)
            self._checkpoints.check()
            rows = sharding.to_devices(batch, self._program.mesh)
            self._state, figures = self._program.train(self._state, rows)
            pending.append(figures["loss"])
            seen += int(batch["valid"].sum()) * job.count()
            done = step + 1
            if self._trace:
                self._trace.after(done, self._state)
            epoch_ends = self._epochs.ends_with(done)
            asked_to_stop = stop.after_step()  # read once: what is saved below must have been fetched before
            if epoch_ends or asked_to_stop is not None or len(pending) >= _FETCH_EVERY_STEPS or step == first_step:
                losses = self._fetch(pending, done)
                self._report.stepped(done, losses[-1], self._rate_at(step), seen / (time.monotonic() - since))
                self._progress.add(losses)
                pending, since, seen = [], time.monotonic(), 0
            if epoch_ends:
                if self._end_epoch(done, self._rate_at(step), stop):
                    return self._ending(done, Reason.NOT_FALLING)
                since = time.monotonic()
                asked_to_stop = stop.agreed()  # everything is fetched; a validation that was cut off is not gone past
            if asked_to_stop is not None:
                self._save(done)
                return self._ending(done, Reason.ASKED_TO, asked_to_stop)
        return self._ending(last_step, Reason.ALL_DONE)

    def _ending(self, step: int, reason: Reason, code: int = 0) -> Ending:
        return Ending(step, self._epochs.finished(step), reason, code)

    def _rate_at(self, step: int) -> float:
        return float(np.asarray(self._program.rate(step)))

    def _batches(self, first_step: int) -> Iterator[dict[str, np.ndarray]]:
        experiment = self._experiment
        return stream.training_batches(
            self._cache,
            self._split.train,
            experiment.data,
            seed=experiment.training.seed,
            start_step=first_step,
            rows=self._rows,
        )

    def _fetch(self, pending: list[jax.Array], done: int) -> list[float]:
        """Brings losses to the host; a non-finite one ends the run before anything of it can be saved."""
        losses = [float(loss) for loss in jax.device_get(pending)]
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                first, where = done - len(losses), done - len(losses) + offset
                raise NotFinite(
                    f"the loss became {loss} in step {where + 1} (looked at steps {first + 1} to {done}), whose batch "
                    f"held {self._held(where)}; {self._last_good()}. Lower optimiser.learning_rate, "
                    "or look at these studies"
                )
        return losses

    def _held(self, step: int) -> str:
        data = self._experiment.data
        held = stream.describe_examples(
            self._cache,
            self._split.train,
            data,
            seed=self._experiment.training.seed,
            index=range(step * data.batch, (step + 1) * data.batch),
        )
        return ", ".join(held)

    def _last_good(self) -> str:
        self._checkpoints.settle()
        kept = self._checkpoints.steps()
        return f"the checkpoint of step {kept[-1]} is in place" if kept else "no checkpoint had been saved yet"

    def _owes_validation(self, step: int) -> bool:
        """Whether the run was stopped while it validated: the losses of the epoch are still to be accounted for."""
        return self._epochs.ends_with(step) and self._progress.loss_count > 0

    def _end_epoch(self, done: int, rate: float, stop: StopRequest) -> bool:
        """Saves, validates, writes the journal, saves what is known now; says whether patience has run out.

        Asked to stop meanwhile it leaves off, with everything as it was when the epoch's last step was done.
        """
        training = self._experiment.training
        epoch = self._epochs.finished(done)
        if epoch % training.validate_every_epochs and epoch != training.epochs:
            self._progress.end_epoch()
            if training.keep_every_epochs and epoch % training.keep_every_epochs == 0:
                self._save(done)
            return False
        self._report.note("validating")
        self._save(done)  # so that a validation, and the compilation of the first, may be cut off anywhere
        self._checkpoints.settle()
        job.wait_for_all()
        stop.all_saved()
        figures = self._validation.run(self._state, lambda: stop.agreed() is not None)
        if figures is None:
            return False
        progress = self._progress
        train_loss = progress.end_epoch()
        progress.judge(done, figures)
        loss = figures["validation_loss"]
        if math.isfinite(loss) and (progress.lowest_loss is None or loss < progress.lowest_loss):
            progress.lowest_loss, progress.lowest_loss_epoch = loss, epoch
        row = {"step": done, "epoch": epoch, "loss": train_loss, "learning_rate": rate, **figures}
        if job.first():
            self._run.journal.append(row)
        if self._strip:
            self._strip.grow([row["epoch"] for row in self._run.journal.rows()])
        self._report.validated(row, best=progress.best_steps.get(self._experiment.evaluation.choose_by) == done)
        self._save(done)
        return self._out_of_patience(epoch)

    def _out_of_patience(self, epoch: int) -> bool:
        patience = self._experiment.training.patience_epochs
        return patience is not None and epoch - self._progress.lowest_loss_epoch >= patience

    def _save(self, done: int) -> None:
        self._run.check_there()
        self._checkpoints.save(done, self._state.trees(), dataclasses.asdict(self._progress))
