"""The runs that answer together, each looked at before anything is predicted: what is missing or broken is named."""

from __future__ import annotations

import dataclasses
import hashlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxstroke import command, files
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment
from jaxstroke.inference.cascade import cascade_weights
from jaxstroke.inference.predictor import best_weights
from jaxstroke.judging import folds
from jaxstroke.runs import calibration as calibrations
from jaxstroke.runs import place
from jaxstroke.runs.calibration import Calibration, Rule, read_for
from jaxstroke.runs.folder import RunFolder

# Two networks of which these are equal are one compiled program, and see a study in the same way.
_SHAPE = ("layout", "groups", "targets", "example", "size", "spacing_mm", "depth", "normalise", "normalise_of",
          "derived")  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """A trained run with its best weights, in the host's memory; `step` is where they were saved."""

    run: RunFolder
    experiment: Experiment
    weights: Any
    step: int
    calibration: Calibration | None = None

    def same_program(self, other: Member) -> bool:
        ours, theirs = self.experiment, other.experiment
        same_data = all(getattr(ours.data, name) == getattr(theirs.data, name) for name in _SHAPE)
        return same_data and ours.model == theirs.model and ours.cascade == theirs.cascade


def runs_of(paths: Sequence[Path]) -> list[RunFolder]:
    """The run folders that are meant; the folder of a cross-validation stands for the runs of all its folds."""
    found: list[RunFolder] = []
    for path in paths:
        found += _folds_of(path) if _is_crossval(path) else [RunFolder(path)]
    seen: dict[Path, Path] = {}
    for run in found:
        place = run.path.absolute().resolve()
        if place in seen:
            raise UserError(f"{run.path}: this run is named twice; name each member once")
        seen[place] = run.path
    return found


def read(runs: Sequence[RunFolder], *, choose_by: str = "", calibrated: bool = True) -> list[Member]:
    """Every run's best weights; runs that cannot answer together are refused.

    What was calibrated holds for the weights that it was chosen with: it is left out where `choose_by` asks for others,
    and where `calibrated` is false.
    """
    experiments = [run.experiment() for run in runs]
    for run, experiment in zip(runs[1:], experiments[1:], strict=True):
        _check_together(runs[0], experiments[0], run, experiment)
    members = []
    for run, experiment in zip(runs, experiments, strict=True):
        of_run = cascade_weights if experiment.cascade.stage1_networks else best_weights
        weights, step = of_run(run, experiment, choose_by=choose_by)
        calibration = read_for(run.path, step) if calibrated and not choose_by else None
        members.append(Member(run, experiment, jax.tree.map(np.asarray, weights), step, calibration))
    without = [one for one in members if one.calibration is None]
    if without and len(without) < len(members):
        (with_one, *_) = (one for one in members if one.calibration is not None)
        raise UserError(
            f"{without[0].run.path}: it was not calibrated, and {with_one.run.path} was; calibrate all or none, "
            f"such as: {command.text('calibrate')} {without[0].run.path}"
        )
    return members


def rule_of(members: Sequence[Member]) -> Rule:
    """The rule for the mean of the members' probabilities: the means of what was chosen for each alone."""
    chosen = [one.calibration.rule for one in members if one.calibration]
    if not chosen:
        return Rule.of(members[0].experiment.evaluation)
    return Rule(
        threshold=statistics.mean(rule.threshold for rule in chosen),
        smallest_lesion_ml=statistics.mean(rule.smallest_lesion_ml for rule in chosen),
        largest_component=all(rule.largest_component for rule in chosen),
    )


def joint_file(members: Sequence[Member]) -> str:
    """Where each run keeps what was calibrated for the mean of these: for other weights of any, or at another
    temperature, it has another name, and so does not hold."""
    own = sorted(
        f"{place.state_of(one.run.path)} {one.step} {one.calibration.temperature if one.calibration else None}"
        for one in members
    )
    return f"calibration-of-{len(members)}-runs-{hashlib.sha256(' '.join(own).encode()).hexdigest()[:12]}.json"


def joint(members: Sequence[Member]) -> Calibration | None:
    """What was calibrated for the mean of these members; None where nothing was, and for one alone."""
    if len(members) == 1 or members[0].calibration is None:
        return None
    return calibrations.read(members[0].run.path, joint_file(members))


def told_rule(members: Sequence[Member], together: Calibration | None = None) -> str:
    """The rule in words, and who says so; `together` is that of their mean."""
    own = members[0].calibration
    if together is not None:
        return (
            f"{together.rule}, at temperature {together.temperature:.3g} (calibrated for the mean of the "
            f"{len(members)} runs)"
        )
    if own is None:
        return f"{rule_of(members)} (the experiment's rule; {command.text('calibrate')} chooses one)"
    if len(members) > 1:
        return f"{rule_of(members)} (the mean of what was calibrated for each of the {len(members)} runs)"
    return f"{own.rule}, at temperature {own.temperature:.3g} (calibrated)"


def _check_together(first: RunFolder, leading: Experiment, run: RunFolder, experiment: Experiment) -> None:
    asked = (
        ("data.layout", leading.data.layout, experiment.data.layout),
        ("data.targets", leading.data.targets, experiment.data.targets),
        ("data.preparation", leading.data.preparation, experiment.data.preparation),
        ("evaluation.threshold", leading.evaluation.threshold, experiment.evaluation.threshold),
        ("evaluation.largest_component", leading.evaluation.largest_component, experiment.evaluation.largest_component),
    )
    for name, there, here in asked:
        if there != here:
            raise UserError(
                f"{run.path}: it cannot answer together with {first.path}: {name} is {_text(here)} here and "
                f"{_text(there)} there; leave it out"
            )


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _is_crossval(path: Path) -> bool:
    if not path.is_dir() or (path / "experiment.json").exists():
        return False
    if not (path / "summary.json").is_file():
        if any(path.glob("fold-*/experiment.json")):
            again = f"give {command.text('crossval')} again"
            raise UserError(f"{path}: its folds were not put together yet, so some may be missing; {again}")
        return False
    return "folds" in files.read_json(path / "summary.json")


def _folds_of(path: Path) -> list[RunFolder]:
    """The runs of a cross-validation, each as it was when they were put together."""
    named = files.read_json(path / "summary.json")["folds"]
    if not isinstance(named, list) or not named or not all(isinstance(one, str) for one in named):
        raise UserError(f"{path / 'summary.json'}: it is damaged (folds must name run folders)")
    runs = [RunFolder(Path(one)) for one in named]
    for number, run in enumerate(runs):
        if not run.exists():
            raise UserError(f"{path}: fold {number} is missing ({run.path} is no run folder any more); train it again")
        if not folds.is_done(folds.Fold(number, run.path), run.experiment()):
            raise UserError(
                f"{path}: fold {number} ({run.path}) is not as it was when the folds were put together; "
                f"give {command.text('crossval')} again"
            )
    return runs
