"""Checkpoints: written by Orbax in the background, complete or absent, and checked before they are believed.

    checkpoints/step-00000420/arrays/weights/     parameters and batch statistics, by Orbax
                              arrays/optimiser/   what only training needs
                              progress.json       what the loop needs beside them: best score so far, patience, ...
                              manifest.json       SHA-256 of every file, written last

Orbax restores a file with a flipped bit without complaint, so every file is compared with the manifest first.  A
checkpoint without a manifest was never finished and is cleared away; a damaged one is named, loudly, and the one
before it is used.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from jaxstroke import console
from jaxstroke.errors import UserError
from jaxstroke.runs import files

_NAME = re.compile(r"step-(\d{8})")


Trees = Mapping[str, Any]  # arrays by the word they are kept under: "weights", "optimiser"


@dataclasses.dataclass(frozen=True)
class Restored:
    trees: Trees
    progress: dict[str, Any]
    step: int


class Checkpoints:
    """The checkpoints of one run. `best_steps` in a checkpoint's progress names those that are kept beside the last."""

    def __init__(self, folder: Path, *, keep_last: int = 2) -> None:
        self.folder = folder.absolute()
        self._keep_last = keep_last
        self._writer: ocp.AsyncCheckpointer | None = None
        self._pending: tuple[int, dict[str, Any]] | None = None

    def steps(self) -> list[int]:
        """The steps of the finished checkpoints, oldest first."""
        names = [_NAME.fullmatch(path.parent.name) for path in self.folder.glob("step-*/manifest.json")]
        return sorted(int(name[1]) for name in names if name)

    def save(self, step: int, trees: Trees, progress: dict[str, Any]) -> None:
        """Starts to write a checkpoint; it counts as soon as `settle` (or the next `save`) has returned."""
        self.settle()
        self._clear_unfinished()
        folder = self._path(step)
        if folder.exists():
            return  # resumed and stopped again before another step was done
        try:
            folder.mkdir(parents=True)
            self._writer = self._writer or ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
            parts = {word: ocp.args.StandardSave(tree) for word, tree in trees.items()}
            self._writer.save(folder / "arrays", args=ocp.args.Composite(**parts))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(
                f"{folder}: the checkpoint cannot be written ({error.strerror}); free space there"
            ) from None
        self._pending = (step, progress)

    def settle(self) -> None:
        """Waits for the checkpoint being written, seals it with its manifest, and removes the ones not kept."""
        if self._pending is None:
            return
        step, progress = self._pending
        self._pending = None
        assert self._writer is not None
        folder = self._path(step)
        try:
            self._writer.wait_until_finished()
            files.write_json(folder / "progress.json", progress)
            files.write_json(folder / "manifest.json", _checksums(folder))
        except (OSError, ValueError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(f"{folder}: the checkpoint cannot be written ({error}); free space there") from None
        kept = {*self.steps()[-self._keep_last :], *progress["best_steps"].values()}
        for old in self.steps():
            if old not in kept:
                shutil.rmtree(self._path(old))

    def close(self) -> None:
        self.settle()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def seal(self) -> str:
        """A fingerprint of the finished checkpoints as they are on disk."""
        return " ".join(files.sha256(self._path(step) / "manifest.json") for step in self.steps())

    def progress(self, step: int) -> dict[str, Any]:
        return files.read_json(self._path(step) / "progress.json")

    def restore_last(self, targets: Trees) -> Restored | None:
        """Returns the newest checkpoint that is whole, or None where there is none at all.

        `targets` are the trees that are wanted, as shapes and types and where each array is to lie.
        """
        steps = self.steps()
        for step in reversed(steps):
            damage = self.damage(step)
            if damage is None:
                return self._restore(step, targets)
            console.warn(f"{damage}; this checkpoint is passed over and the one before it is used")
        if steps:
            raise UserError(f"{self.folder}: every checkpoint is damaged; start anew with --fresh")
        return None

    def restore_best(self, targets: Trees, *, choose_by: str) -> Restored:
        """Returns the checkpoint where a validation score was highest, as the last whole one remembers it."""
        steps = self.steps()
        if not steps:
            raise UserError(f"{self.folder}: there is no finished checkpoint yet; train the run first")
        for step in reversed(steps):
            damage = self.damage(step)
            if damage is None:
                best = self.progress(step)["best_steps"].get(choose_by, step)  # not judged yet: the last
                if best not in steps or best == step:
                    return self._restore(step, targets)
                damage = self.damage(best)
                if damage is None:
                    return self._restore(best, targets)
            console.warn(f"{damage}; looking for another checkpoint")
        raise UserError(f"{self.folder}: every checkpoint is damaged")

    def damage(self, step: int) -> str | None:
        """Says which file of a checkpoint is not as it was written, or None."""
        folder = self._path(step)
        try:
            expected = files.read_json(folder / "manifest.json")
        except UserError as error:
            return str(error)
        actual = _checksums(folder)
        for name in sorted(expected.keys() | actual.keys()):
            if name not in actual:
                return f"{folder / name}: the file is missing"
            if expected.get(name) != actual[name]:
                return f"{folder / name}: the file was changed or damaged after it was written"
        return None

    def _restore(self, step: int, targets: Trees) -> Restored:
        parts = {word: ocp.args.StandardRestore(target) for word, target in targets.items()}
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            try:
                trees = reader.restore(self._path(step) / "arrays", args=ocp.args.Composite(**parts))
            except (ValueError, KeyError) as error:
                first = str(error).splitlines()[0]
                raise UserError(f"{self._path(step)}: these are not the weights of this network ({first})") from None
        return Restored({word: trees[word] for word in targets}, self.progress(step), step)

    def _clear_unfinished(self) -> None:
        for path in self.folder.glob("step-*"):
            if not (path / "manifest.json").exists():
                shutil.rmtree(path)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"


def _checksums(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "manifest.json")
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in paths}
