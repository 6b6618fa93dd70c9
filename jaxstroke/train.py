"""`python -m jaxstroke.train --exp NAME`: trains an experiment, or goes on with a run that was begun."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, as_json, catalogue
from jaxstroke.process import door, job
from jaxstroke.runs import place, turns

if TYPE_CHECKING:
    from jaxstroke.runs.folder import RunFolder


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("train"),
        description="Train an experiment. Running the same command again resumes the run in its folder.",
        epilog=f"Example: {command.text('train')} --exp dme_isles18 --scale small --set data.batch=4",
    )
    parser.add_argument("--exp", metavar="NAME", help="the experiment; --list shows them")
    parser.add_argument("--list", action="store_true", help="list the experiments, a line each")
    parser.add_argument("--data", metavar="PATH", help="the data set's folder (else JAXSTROKE_DATA, else the phantom)")
    parser.add_argument("--layout", default="", metavar="NAME", help="how the data lie, where it is not recognised")
    parser.add_argument("--out", metavar="DIR", help="the run folder; default runs/NAME[-small][-fold-K]")
    parser.add_argument("--scale", choices=("full", "small"), default="full", help="small: minutes on a laptop")
    parser.add_argument("--fold", type=int, metavar="K", help="the fold held out for testing")
    parser.add_argument("--epochs", type=int, metavar="N", help="the number of epochs (training.epochs)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field: data.batch=4")
    parser.add_argument("--resume", action="store_true", help="resume; an error where there is no checkpoint")
    parser.add_argument("--keep-going", action="store_true", help="leave out studies that cannot be prepared")
    parser.add_argument("--profile", type=_steps, metavar="START:COUNT", help="trace COUNT steps after START of them")
    parser.add_argument("--wandb", action="store_true", help="the figures to Weights & Biases too, offline")
    parser.add_argument("--fresh", action="store_true", help="start anew in a folder beside an existing one")
    return parser


def _steps(text: str) -> tuple[int, int]:
    start, colon, count = text.partition(":")
    if not (colon and start.isdecimal() and count.isdecimal() and int(count)):
        raise argparse.ArgumentTypeError(f"{text}: two numbers are needed, such as 20:5, the second at least 1")
    return int(start), int(count)


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments, argparse.Namespace(typed=arguments))
    if args.list:
        _list()
        return 0
    if not args.exp:
        raise UserError("--exp is missing: name an experiment, for example --exp dme_isles18; --list shows them all")
    if args.resume and args.fresh:
        raise UserError("--resume and --fresh contradict each other: give one of them")
    if args.wandb:
        from jaxstroke.training import weights_and_biases

        weights_and_biases.check()
    experiment = _experiment(args)
    folder = Path(args.out) if args.out else place.default_folder(experiment)
    if job.needs_watching():
        return job.watch("train", arguments)
    job.mute_all_but_first()
    console.say(f"jaxstroke: {experiment.name} ({experiment.scale} scale): {experiment.title}")
    console.say("loading jax ...")
    try:
        folder = _turn_begins(folder, args)
    except UserError:
        if job.starts_first():
            raise
        return 2  # all see the same, and the first says it
    with job.joined(), _locked_run(experiment, folder, args) as run:
        from jaxstroke.training import stages

        given = {name: getattr(args, name) for name in ("data", "layout", "keep_going", "profile", "wandb")}
        code = stages.train(experiment, run, **given)
        if code:
            console.next_command("train", *_again(args, run.path))
        else:
            console.next_command("evaluate", str(run.path))
    return code


def _experiment(args: argparse.Namespace) -> Experiment:
    fields = {"data.fold": args.fold, "training.epochs": args.epochs}
    return catalogue.asked_for(args.exp, args.scale, args.set, fields)


def _turn_begins(folder: Path, args: argparse.Namespace) -> Path:
    """Remembers this turn of a cluster's job in the run folder, before the processes find each other, which may fail.

    Returns the run folder, which --fresh has made in the job's first turn and not again in every turn.
    """
    turn = turns.this_turn()
    if turn is None or (args.resume and not folder.exists()):
        return folder
    if args.fresh:
        from jaxstroke.runs.folder import beside

        folder = turns.folder_of(turn.job, folder) or beside(folder)
    turn = turns.begun(folder, turn)
    turns.check(folder, turn)
    if job.starts_first():
        turns.remember(folder, turn)
    return folder


def _again(args: argparse.Namespace, folder: Path) -> list[str]:
    """The words that go on with the run: those that were typed, but for `--fresh`, which would begin another one."""
    if not args.fresh:
        return args.typed
    typed = [word for word in args.typed if not (word.startswith("--fr") and "--fresh".startswith(word))]
    return [*typed, "--out", str(folder)]


def _list() -> None:
    for name in catalogue.names():
        base, experiment = catalogue.base(name), catalogue.load(name)
        if base == name:
            console.say(f"{name:36} {experiment.title}")
            continue
        changed = as_json.differences(catalogue.load(base), experiment)
        told = (f"{path}={value}" for path, (_, value) in changed.items() if path != "name")
        console.say(f"  {name:34} {', '.join(told)}")


@contextlib.contextmanager
def _locked_run(experiment: Experiment, folder: Path, args: argparse.Namespace) -> Iterator[RunFolder]:
    """The run folder, made sure of and this job's alone."""
    from jaxstroke.runs import folder as runs

    if args.fresh and turns.this_turn() is None:
        folder = runs.beside(folder)
    folder = Path(job.broadcast_from_first(str(folder)))
    run = runs.RunFolder(folder)
    if run.exists():
        run.check_same(experiment)
    elif args.resume:
        raise UserError(f"--resume: {folder} holds no run; leave --resume away to start one there")
    with run.locked() if job.first() else contextlib.nullcontext():
        if args.resume and not run.checkpoints().steps():
            raise UserError(
                f"--resume: {run.path} holds no finished checkpoint; leave --resume away to start from the beginning"
            )
        yield run


if __name__ == "__main__":
    door.run(main)
