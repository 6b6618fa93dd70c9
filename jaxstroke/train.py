"""`python -m jaxstroke.train --exp NAME`: trains an experiment, or goes on with a run that was begun."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, as_json, catalogue, overrides
from jaxstroke.process import door, job
from jaxstroke.runs import place, turns

if TYPE_CHECKING:
    from jaxstroke.data.cache.format import Cache
    from jaxstroke.data.source import Source
    from jaxstroke.data.splits import Split
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
    parser.add_argument("--fresh", action="store_true", help="start anew in a folder beside an existing one")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments, argparse.Namespace(typed=arguments))
    if args.list:
        _list()
        return 0
    if not args.exp:
        raise UserError("--exp is missing: name an experiment, for example --exp dme_isles18; --list shows them all")
    if args.resume and args.fresh:
        raise UserError("--resume and --fresh contradict each other: give one of them")
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
    with job.joined():
        return _train(experiment, folder, args)


def _experiment(args: argparse.Namespace) -> Experiment:
    experiment = catalogue.load(args.exp, scale=args.scale)
    changes: dict[str, object] = {**overrides.parse_assignments(args.set)}
    for path, value in (("data.fold", args.fold), ("training.epochs", args.epochs)):
        changes |= {} if value is None else {path: value}
    return overrides.override(experiment, changes)


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


def _train(experiment: Experiment, folder: Path, args: argparse.Namespace) -> int:
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
        return _train_locked(experiment, run, args)


def _train_locked(experiment: Experiment, run: RunFolder, args: argparse.Namespace) -> int:
    from jaxstroke.data.cache.fingerprint import FORMAT
    from jaxstroke.data.source import ENVIRONMENT, named_folder, open_source
    from jaxstroke.runs import folder as runs

    if args.resume and not run.checkpoints().steps():
        raise UserError(
            f"--resume: {run.path} holds no finished checkpoint; leave --resume away to start from the beginning"
        )

    from jaxstroke import sharding, user_cache
    from jaxstroke.process import compiled_programs

    compiled_programs.keep()
    with job.first_goes_first():
        source = open_source(experiment.data, named_folder(args.data), user_cache.folder(), args.layout)
        if source.phantom:
            console.say(
                f"*** {console.PHANTOM_NOTICE} Give --data PATH or set {ENVIRONMENT} to use {source.layout.title}. ***"
            )
    cache, split = _prepared(experiment, source, keep_going=args.keep_going)
    data = {
        "data": str(source.root.absolute()),
        "data_fingerprint": cache.fingerprint,
        "cache_format": FORMAT,
        "layout": source.layout.name,
        "phantom": source.phantom,
        "split": dataclasses.asdict(split),
    }
    about = runs.describe(device=sharding.describe(), seed=experiment.training.seed, data=data)
    with job.first_goes_first():
        if job.first():
            run.start(experiment, about)
    console.say(
        f"{len(split.train)} studies to train on, {len(split.validation)} to validate, "
        f"{len(split.test)} held out for testing"
    )
    code = 0
    if experiment.cascade.stage1_networks:
        code, cache = _first_stage(experiment, run, cache, split, about)
    code = code or _run(experiment, run, cache, split, phantom=source.phantom)
    if code:
        console.next_command("train", *_again(args, run.path))
    else:
        console.next_command("evaluate", str(run.path))
    return code


def _prepared(experiment: Experiment, source: Source, *, keep_going: bool) -> tuple[Cache, Split]:
    """The studies that can be trained on, prepared, and which of them are for what."""
    from jaxstroke import user_cache
    from jaxstroke.data.cache.building import Share, build_cache
    from jaxstroke.data.splits import split as split_patients

    annotated = source.annotated(experiment.data.targets)
    centres = {case.study: case.centre for case in annotated} if experiment.data.split_by == "centre" else None
    split = split_patients(
        {case.study: case.patient for case in annotated},
        folds=experiment.data.folds,
        fold=experiment.data.fold,
        validation_fraction=experiment.data.validation_fraction,
        seed=experiment.training.seed,
        fixed_test=source.layout.fixed_test(source.root),
        centres_by_study=centres,
    )
    share = Share(job.index(), job.count(), job.gather)
    others = f" by each of {share.count} processes" if share.count > 1 else ""
    with console.bar(f"preparing{others}", len(share.of(annotated)), "studies") as advance:
        folder = user_cache.folder() / "prepared"
        cache = build_cache(annotated, experiment.data, folder, advance, keep_going=keep_going, share=share)
    return cache, split.only([study.study for study in cache.studies])


def _first_stage(
    experiment: Experiment, run: RunFolder, cache: Cache, split: Split, about: dict[str, Any]
) -> tuple[int, Cache]:
    """Trains the first stage; returns what the process should end with, and the cache with its maps."""
    from jaxstroke import user_cache
    from jaxstroke.inference.cascade import first_stage, stage1_folders
    from jaxstroke.training.cascade import stage1_splits, with_synthetic_maps

    patients = {study.study: study.patient for study in cache.studies}
    splits = stage1_splits(split, patients, experiment.cascade.stage1_networks, seed=experiment.training.seed)
    for folder, own in zip(stage1_folders(run.path, experiment), splits, strict=True):
        console.say(f"first stage, {folder.path.name}: trains on {len(own.train)} studies, maps {len(own.test)}")
        stage1 = first_stage(experiment)
        if job.first():
            folder.start(stage1, {**about, "split": dataclasses.asdict(own)})
        code = _run(stage1, folder, cache, own, phantom=about["phantom"])
        if code:
            return code, cache
    console.say("second stage: the synthetic map is one more image")
    with job.first_goes_first():
        return 0, with_synthetic_maps(experiment, cache, splits, run, user_cache.folder() / "prepared")


def _run(experiment: Experiment, run: RunFolder, cache: Cache, split: Split, *, phantom: bool) -> int:
    """Trains one network in its run folder; returns what the process should end with."""
    from jaxstroke.pictures import plots
    from jaxstroke.training.display import Report
    from jaxstroke.training.loop import Training

    with Report(run.path / "events" if job.first() else None, phantom=phantom) as report:
        training = Training(experiment, cache, split, run, report)
        first_step = training.start()
        if first_step:
            console.say(f"resuming {run.path} from step {first_step}")
        if first_step < training.last_step:
            console.say(f"compiling {experiment.model.name}: the first step takes a while, the others do not")
        ending = training.run(first_step)
    if not job.first():
        return ending.code
    rows = run.journal.rows()
    if rows:
        plots.curves(rows, run.path / "curves.png", phantom=phantom)
    console.say(f"ended after epoch {ending.epoch} (step {ending.step}): {ending.reason}")
    best = max((row for row in rows if row.get("dice") is not None), key=lambda row: row["dice"], default=None)
    if best:
        mark = " [phantom]" if phantom else ""
        console.say(f"best validation Dice {best['dice']:.3f} in epoch {best['epoch']}{mark}; all is in {run.path}")
    return ending.code


if __name__ == "__main__":
    door.run(main)
