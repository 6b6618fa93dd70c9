"""The turns of a cluster's job: a job that gets nowhere is not started again for ever.

A scheduler starts a job again that was stopped, and each of its turns goes on from the last checkpoint.  Where no turn
reaches the next checkpoint (the time asked for is shorter than the first compilation, say) that would go on for ever.
So a job's script names the job and the turn (JAXSTROKE_JOB, JAXSTROKE_TURN), and the run folder remembers in
`turns.json` how many turns, one after the other, brought nothing.  Without these variables nothing here does anything.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from jaxstroke import files
from jaxstroke.errors import UserError

RECORD = "turns.json"
MOST_IN_VAIN = 2


@dataclasses.dataclass(frozen=True)
class Turn:
    """Attributes:
    job: the scheduler's name of the job.
    turn: how often it was started again.
    checkpoints: that were there when the turn began.
    in_vain: turns before this one, one after the other, that brought no new checkpoint.
    """

    job: str
    turn: int
    checkpoints: tuple[str, ...] = ()
    in_vain: int = 0


def this_turn(variables: Mapping[str, str] = os.environ) -> Turn | None:
    """Job and turn as the script says; None without a script."""
    name, text = variables.get("JAXSTROKE_JOB", ""), variables.get("JAXSTROKE_TURN", "")
    if not name:
        return None
    if not text.isdecimal():
        raise UserError(f"JAXSTROKE_TURN={text}: a whole number is needed, how often the job was started again")
    return Turn(name, int(text))


def begun(run: Path, now: Turn) -> Turn:
    """This turn as the run folder sees it; the same before and after it is remembered there."""
    before = _remembered(run)
    if before is None or before.job != now.job or before.turn > now.turn:  # a new job may bear an old one's name
        return dataclasses.replace(now, checkpoints=_checkpoints(run))
    if before.turn == now.turn:
        return before
    found = _checkpoints(run)
    return dataclasses.replace(now, checkpoints=found, in_vain=before.in_vain + 1 if found == before.checkpoints else 0)


def remember(run: Path, turn: Turn) -> None:
    if _remembered(run) != turn:
        files.write_json(run / RECORD, dataclasses.asdict(turn))


def check(run: Path, turn: Turn) -> None:
    """Raises where the turns before this one brought nothing."""
    if turn.in_vain >= MOST_IN_VAIN:
        raise UserError(
            f"{run}: {turn.in_vain} turns of job {turn.job}, one after the other, brought no new checkpoint, so it is "
            "not started again; its log says how far they came. Ask for more time, or make the way to a checkpoint "
            "shorter with training.steps_per_epoch; a job that is submitted anew goes on from the last checkpoint"
        )


def folder_of(job: str, wanted: Path) -> Path | None:
    """The folder that an earlier turn of this job made at or beside the wanted one."""
    for path in (wanted, *sorted(wanted.parent.glob(f"{wanted.name}-*"))):
        before = _remembered(path)
        if before is not None and before.job == job:
            return path
    return None


def _checkpoints(run: Path) -> tuple[str, ...]:
    """Finished ones, those of a cascade's first stage too."""
    found = (*run.glob("checkpoints/step-*/manifest.json"), *run.glob("*/checkpoints/step-*/manifest.json"))
    return tuple(sorted(path.parent.relative_to(run).as_posix() for path in found))


def _remembered(run: Path) -> Turn | None:
    path = run / RECORD
    if not path.exists():
        return None
    try:
        tree = files.read_json(path)
        return Turn(str(tree["job"]), int(tree["turn"]), tuple(tree["checkpoints"]), int(tree["in_vain"]))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: it does not describe the turn of a job; delete it") from None
