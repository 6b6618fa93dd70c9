"""Checkpoints: written by Orbax in the background, complete or absent, and checked before they are believed.

    checkpoints/step-00000420/arrays/weights/     parameters and batch statistics, by Orbax
                              arrays/optimiser/   what only training needs
                              manifest.json       written last: SHA-256 of every file, of itself too, and `progress`,
                                                  what the loop needs beside the arrays: best score so far, ...

Orbax restores a file with a flipped bit without complaint, so every file is compared with the manifest first.  A
checkpoint without a manifest was never finished and is cleared away; a damaged one is named, loudly, and the one
before it is used.  Nothing older is removed before the new one is sealed.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxstroke import console, files
from jaxstroke.errors import UserError
from jaxstroke.files.sealed import sealed, unsealed
from jaxstroke.process import job
from jaxstroke.runs import loops

_NAME = re.compile(r"step-(\d{8})")
_OS_ERROR = re.compile(r"os_error_code='(\d+)'")
_OVERHEAD_BYTES = 2**20  # of a checkpoint beside its arrays
_TOLD_CHARACTERS = 200  # of what Orbax says
_GONE_FOR_S = 0.5  # then nothing of a checkpoint that failed comes any more

# What goes wrong in Orbax's threads comes out of `wait_until_finished`; it is not printed as well.
for _logger in ("absl", "asyncio"):
    logging.getLogger(_logger).setLevel(logging.CRITICAL)


Trees = Mapping[str, Any]  # arrays by the word they are kept under: "weights", "optimiser"


@dataclasses.dataclass(frozen=True)
class Restored:
    trees: Trees
    progress: dict[str, Any]
    step: int


class Checkpoints:
    """The checkpoints of one run. `best_steps` in a checkpoint's progress names those that are kept beside the last.

    Every `keep_every_steps`-th step is kept for ever.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2, keep_every_steps: int | None = None) -> None:
        self.folder = folder.absolute()
        self._keep_last = keep_last
        self._keep_every_steps = keep_every_steps
        self._writer: ocp.AsyncCheckpointer | None = None
        self._background = concurrent.futures.ThreadPoolExecutor(1)
        self._pending: concurrent.futures.Future[None] | None = None
        self._at: int | None = None  # the step that was restored or saved last: what is newer was passed over

    def steps(self) -> list[int]:
        """The steps of the finished checkpoints, oldest first."""
        names = [_NAME.fullmatch(path.parent.name) for path in self.folder.glob("step-*/manifest.json")]
        return sorted(int(name[1]) for name in names if name)

    def save(self, step: int, trees: Trees, progress: dict[str, Any]) -> None:
        """Starts to write a checkpoint, sealed in the background; a failure comes out of `check` or `settle`."""
        self.settle()
        if job.first():
            self.clear_unfinished()
        # The same arrays; what is known of them may be new.
        if job.broadcast_from_first(step == self._at and step in self.steps()):
            if job.first():
                self._seal(step, self._manifest(step)["files"], progress)
                self._prune(progress["best_steps"].values())
            return
        folder = self._path(step)
        try:
            if job.first():
                for passed_over in (other for other in self.steps() if other >= step):
                    self._remove(passed_over)
                folder.mkdir(parents=True)
                self._check_space(folder, trees)
            job.wait_for_all()
            loops.use()
            self._writer = self._writer or ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
            parts = {word: ocp.args.StandardSave(tree) for word, tree in trees.items()}
            self._writer.save(folder / "arrays", args=ocp.args.Composite(**parts))
        except (OSError, ValueError, RuntimeError) as error:
            raise self._not_written(step, error) from None
        self._at = step
        self._pending = self._background.submit(self._finish, step, progress)

    def check(self) -> None:
        """Raises what went wrong with the checkpoint being written, if that is known already."""
        if self._pending is not None and self._pending.done():
            self.settle()

    def settle(self) -> None:
        """Waits for the checkpoint being written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        try:
            self.settle()
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def clear_unfinished(self) -> None:
        """Removes what a killed process left; for the process that holds the run's lock."""
        for path in self.folder.glob("step-*"):
            if not (path / "manifest.json").exists():
                console.say(f"{path}: a process was ended while it wrote or removed this; it is cleared away")
                shutil.rmtree(path)

    def _check_space(self, folder: Path, trees: Trees) -> None:
        """A full disk is told before anything is written to it; a quota only shows while writing."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(trees)) + _OVERHEAD_BYTES
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(f"it needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free")

    def _finish(self, step: int, progress: dict[str, Any]) -> None:
        """In the background: waits for the arrays, seals the checkpoint, and only then removes the ones not kept."""
        try:
            assert self._writer is not None
            self._writer.wait_until_finished()
            if not job.first():
                return
            self._seal(step, _checksums(self._path(step)), progress)
        except (OSError, ValueError, RuntimeError, UserError) as error:
            raise self._not_written(step, error) from None
        self._prune(progress["best_steps"].values())

    def _seal(self, step: int, checksums: dict[str, str], progress: dict[str, Any]) -> None:
        tree = sealed({"files": checksums, "progress": progress})
        files.write_json(self._path(step) / "manifest.json", tree)

    def _prune(self, best: Iterable[int]) -> None:
        steps = self.steps()
        kept = {*steps[-self._keep_last :], *best}
        for old in steps:
            if old not in kept and not (self._keep_every_steps and old % self._keep_every_steps == 0):
                self._remove(old)

    def _remove(self, step: int) -> None:
        """Without its manifest it counts as unfinished at once, should the process end in the middle."""
        try:
            (self._path(step) / "manifest.json").unlink()
            shutil.rmtree(self._path(step))
        except OSError as error:
            raise UserError(f"{self._path(step)}: it cannot be removed ({error.strerror})") from None

    def _not_written(self, step: int, error: Exception) -> UserError:
        """Clears a checkpoint that failed; what to tell of it."""
        _remove_for_good(self._path(step))
        number = _OS_ERROR.search(str(error))  # as tensorstore tells it at the end of a long line
        reason = os.strerror(int(number[1])) if number else (str(error).splitlines() or [type(error).__name__])[0]
        kept = self.steps()
        good = f"the checkpoint of step {kept[-1]} is in place" if kept else "no earlier one had been saved"
        return UserError(f"{self._path(step)}: the checkpoint cannot be written ({reason}); {good}. Free space there")

    def seal(self) -> str:
        """A fingerprint of the finished checkpoints as they are on disk."""
        return " ".join(files.sha256(self._path(step) / "manifest.json") for step in self.steps())

    def progress(self, step: int) -> dict[str, Any]:
        return self._manifest(step)["progress"]

    def restore_last(self, targets: Trees) -> Restored | None:
        """Returns the newest checkpoint that is whole, or None where there is none at all.

        `targets` are the trees that are wanted, as shapes and types and where each array is to lie.
        """
        step = job.broadcast_from_first(self._last_whole() if job.first() else None)
        if step is None:
            return None
        self._at = step
        return self._restore(step, targets)

    def _last_whole(self) -> int | None:
        steps = self.steps()
        for step in reversed(steps):
            damage = self.damage(step)
            if damage is None:
                return step
            console.warn(f"{damage}; this checkpoint is passed over and the one before it is used")
        if steps:
            raise UserError(f"{self.folder}: every checkpoint is damaged; start anew with --fresh")
        return None

    def restore_best(self, targets: Trees, *, choose_by: str) -> Restored:
        """Returns the checkpoint where a validation score was highest."""
        return self._restore(self.best(choose_by), targets)

    def best(self, choose_by: str) -> int:
        """The step where a validation score was highest, as the last whole checkpoint remembers it."""
        steps = self.steps()
        if not steps:
            raise UserError(f"{self.folder}: there is no finished checkpoint yet; train the run first")
        for step in reversed(steps):
            damage = self.damage(step)
            if damage is None:
                best = self.progress(step)["best_steps"].get(choose_by, step)  # not judged yet: the last
                if best not in steps or best == step:
                    return step
                damage = self.damage(best)
                if damage is None:
                    return best
            console.warn(f"{damage}; looking for another checkpoint")
        raise UserError(f"{self.folder}: every checkpoint is damaged")

    def damage(self, step: int) -> str | None:
        """Says which file of a checkpoint is not as it was written, or None."""
        folder = self._path(step)
        try:
            expected, actual = self._manifest(step)["files"], _checksums(folder)
        except UserError as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or folder}: it cannot be read ({error.strerror})"
        for name in sorted(expected.keys() | actual.keys()):
            if name not in actual:
                return f"{folder / name}: the file is missing"
            if name not in expected:
                return f"{folder / name}: the file does not belong there"
            if expected[name] != actual[name]:
                return f"{folder / name}: the file was changed or damaged after it was written"
        return None

    def _manifest(self, step: int) -> dict[str, Any]:
        path = self._path(step) / "manifest.json"
        tree = unsealed(files.read_json(path))
        if tree is None or not _is_manifest(tree):
            raise UserError(f"{path}: the file was changed or damaged after it was written")
        return tree

    def _restore(self, step: int, targets: Trees) -> Restored:
        parts = {word: ocp.args.StandardRestore(target) for word, target in targets.items()}
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            try:
                trees = reader.restore(self._path(step) / "arrays", args=ocp.args.Composite(**parts))
            # Orbax raises whatever its threads met, `Exception` itself among it, in text of any length.
            except Exception as error:
                first = (str(error).splitlines() or [type(error).__name__])[0][:_TOLD_CHARACTERS]
                raise UserError(f"{self._path(step)}: these are not the weights of this network ({first})") from None
        return Restored({word: trees[word] for word in targets}, self.progress(step), step)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"


def _is_manifest(tree: dict[str, Any]) -> bool:
    """Whether it has what every manifest has: a seal tells what changed, not who wrote it."""
    progress = tree.get("progress")
    best = progress.get("best_steps") if isinstance(progress, dict) else None
    if not isinstance(tree.get("files"), dict) or not isinstance(best, dict):
        return False
    return all(isinstance(step, int) for step in best.values())


def _remove_for_good(folder: Path) -> None:
    """Writes that had begun when another failed may still end, and make the folder anew."""
    last_seen = begun = time.monotonic()
    while time.monotonic() - last_seen < _GONE_FOR_S and time.monotonic() - begun < 10 * _GONE_FOR_S:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
            last_seen = time.monotonic()
        time.sleep(0.02)


def _checksums(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "manifest.json")
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in paths}
