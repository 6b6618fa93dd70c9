"""Where runs lie, and whether one is as it was when it was looked at last; nothing slow is imported for it."""

from __future__ import annotations

from pathlib import Path

from jaxstroke import files
from jaxstroke.experiment import Experiment

RUNS = Path("runs")


def default_folder(experiment: Experiment) -> Path:
    """runs/NAME[-small][-fold-K]; fold 0 has no mark, since most runs have no other."""
    return RUNS / "-".join([_stem(experiment), *([f"fold-{experiment.data.fold}"] if experiment.data.fold else [])])


def crossval_folder(experiment: Experiment) -> Path:
    """Where what all folds come to is written."""
    return RUNS / f"crossval-{_stem(experiment)}"


def _stem(experiment: Experiment) -> str:
    return "-".join([experiment.name, *(["small"] if experiment.scale == "small" else [])])


def holds_run(path: Path) -> bool:
    """Whether a folder is a run's, or that of a cross-validation."""
    return any((path / name).is_file() for name in ("experiment.json", "summary.json")) or any(
        path.glob("fold-*/experiment.json")
    )


def state_of(run: Path) -> str:
    """A fingerprint of a run's finished checkpoints: another one once it was trained further."""
    manifests = sorted((run / "checkpoints").glob("step-*/manifest.json"))
    return " ".join(f"{path.parent.name}:{files.sha256(path)[:16]}" for path in manifests)
