"""A run folder: what was run, with what, on which data; enough to repeat it.

experiment.json   the resolved experiment
about.json        the format of the folder, versions, commit, command, device, data and their fingerprint, seed, phantom
journal.jsonl     the figures, a line an epoch
checkpoints/      see `checkpoint.py`
events/           TensorBoard
curves.png        the journal drawn
stage1-0/ ...     of a cascade: run folders of its first stage, with polarity.json, see `inference.cascade`
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxstroke import __version__, files
from jaxstroke.errors import UserError, short
from jaxstroke.experiment import Experiment, as_json
from jaxstroke.files import formats
from jaxstroke.files.atomic import sweep
from jaxstroke.runs.checkpoint import Checkpoints
from jaxstroke.runs.journal import Journal

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy", "nibabel")

# Fields that may differ between two starts of one run: they change how it is fed or how far it goes, not what it is.
# (A cosine ends with the last epoch, so there the number of epochs belongs to what the run is.)
_MAY_DIFFER = (
    "training.epochs",
    "training.keep_last",
    "training.keep_every_epochs",
    "parallel.map",
    "parallel.shard_optimiser",
)


# What every description of a run has, whatever made it.
_ABOUT = {"data": str, "phantom": bool, "split": dict, "seed": int, "versions": dict}


class RunFolder:
    """An opened run folder. Reading needs no lock; `locked` keeps a second trainer out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path / "journal.jsonl")

    def exists(self) -> bool:
        return os.path.lexists(self.path / "experiment.json")

    def experiment(self) -> Experiment:
        if not self.exists():
            raise UserError(f"{self.path}: this is no run folder (it holds no experiment.json); train one first")
        if os.path.lexists(self.path / "about.json"):
            self._described()  # which looks whether this program can read the folder at all
        path = self.path / "experiment.json"
        try:
            return as_json.from_tree(Experiment, files.read_sealed(path), "")
        except UserError as error:
            raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from None

    def about(self) -> dict[str, Any]:
        path, tree = self.path / "about.json", self._described()
        for name, kind in _ABOUT.items():
            if not isinstance(tree.get(name), kind):
                raise UserError(f"{path}: it is damaged ({name} is missing or no {kind.__name__})")
        parts = [tree["split"].get(part) for part in ("train", "validation", "test")]
        if not all(isinstance(part, list) and all(isinstance(one, str) for one in part) for part in parts):
            raise UserError(f"{path}: it is damaged (split must name train, validation and test studies)")
        return tree

    def _described(self) -> dict[str, Any]:
        tree = files.read_sealed(self.path / "about.json")
        formats.check(self.path, tree, newest=formats.RUN_FOLDER, what="run folder")
        return tree

    def check_there(self) -> None:
        """A folder that is removed while its run trains: nothing that is saved from now on would be found."""
        if not self.path.is_dir():
            raise UserError(f"{self.path}: the run folder was removed while it was trained in; nothing is saved there")

    def checkpoints(self, *, keep_last: int = 2, keep_every_steps: int | None = None) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints", keep_last=keep_last, keep_every_steps=keep_every_steps)

    def start(self, experiment: Experiment, about: dict[str, Any]) -> None:
        """Describes a new run, or makes sure that an old one is the same run; the caller holds the lock."""
        sweep(self.path)
        self.checkpoints().clear_unfinished()
        if self.exists():
            self.check_same(experiment)
            recorded = files.read_sealed(self.path / "about.json")
            before, now = recorded.get("data_fingerprint"), about.get("data_fingerprint")
            if "imported" in recorded and before is None:  # weights from elsewhere, which have seen no data here yet
                files.write_sealed(self.path / "about.json", {**about, "imported": recorded["imported"]})
            elif before != now:
                raise _other_data(self.path, recorded, about)
        else:
            files.write_sealed(self.path / "about.json", about)
        files.write_sealed(self.path / "experiment.json", dataclasses.asdict(experiment))

    def check_same(self, experiment: Experiment) -> None:
        fixed = ("training.epochs",) if experiment.schedule.name == "warmup_cosine" else ()
        changed = {
            name: values
            for name, values in as_json.differences(self.experiment(), experiment).items()
            if name not in _MAY_DIFFER or name in fixed
        }
        if changed:
            said = [f"{name}: {short(old)} there, {short(new)} now" for name, (old, new) in changed.items()]
            told = "; ".join(said[:6])
            raise UserError(
                f"{self.path}: this folder holds a run of another experiment ({told}); "
                "choose another --out, or start anew beside it with --fresh"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other trainers out of the folder; the lock goes with the process, however that ends."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("w")
        except OSError as error:
            raise UserError(
                f"{self.path}: this folder cannot be written ({error.strerror}); choose another --out"
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path}: another process is training in this folder; wait for it or choose another --out"
                ) from None
            yield


def _other_data(path: Path, recorded: dict[str, Any], about: dict[str, Any]) -> UserError:
    # Runs that do not tell the format of their prepared studies were begun when it was 2.
    before, now = (one.get("cache_format", 2) for one in (recorded, about))
    if before != now:
        return UserError(
            f"{path}: this run was begun on studies prepared in format {before}, and this program prepares them in "
            f"format {now}; go on with jaxstroke {recorded.get('jaxstroke')}, or start anew with --fresh"
        )
    before, now = recorded.get("data_fingerprint"), about.get("data_fingerprint")
    return UserError(
        f"{path}: this run was begun on other data (fingerprint {before}, now {now}); "
        "give it the same data, or start anew with --fresh"
    )


def beside(path: Path) -> Path:
    """The first free name beside a folder: run, run-2, run-3, ..."""
    number = 2
    fresh = path
    while fresh.exists():
        fresh = path.with_name(f"{path.name}-{number}")
        number += 1
    return fresh


def describe(*, device: dict[str, Any], seed: int, data: dict[str, Any]) -> dict[str, Any]:
    """What the run folder tells of its making; `data` holds `data_fingerprint`, `phantom` and where it was read."""
    return {
        formats.KEY: formats.RUN_FOLDER,
        "jaxstroke": __version__,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
        "command": sys.argv,
        "device": device,
        "cpu_count": os.cpu_count(),
        "seed": seed,
        **data,
    }


def _commit() -> str | None:
    """The commit of the checkout that runs, marked where files differ from it; None when installed from a wheel."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")
