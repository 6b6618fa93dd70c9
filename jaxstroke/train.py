"""`python -m jaxstroke.train --exp NAME`: trains an experiment, or goes on with a run that was begun."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.process import door, job

if TYPE_CHECKING:
    from jaxstroke.data.cache.format import Cache
    from jaxstroke.data.source import Source
    from jaxstroke.data.splits import Split
    from jaxstroke.runs.folder import RunFolder


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog=command.text("train"),
        description="Train an experiment. Running the same command again resumes the run in its folder.",
        epilog=f"Example: {command.text('train')} --exp dme_isles18 --scale small --set data.batch=4",
    )
    words.add_argument("--exp", metavar="NAME", help="the experiment; --list shows them")
    words.add_argument("--list", action="store_true", help="list the experiments, a line each")
    words.add_argument("--data", metavar="PATH", help="the data set's folder (else JAXSTROKE_DATA, else the phantom)")
    words.add_argument("--out", metavar="DIR", help="the run folder; default runs/NAME[-small][-fold-K]")
    words.add_argument("--scale", choices=("full", "small"), default="full", help="small: minutes on a laptop")
    words.add_argument("--fold", type=int, metavar="K", help="the fold held out for testing")
    words.add_argument("--epochs", type=int, metavar="N", help="the number of epochs (training.epochs)")
    words.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field, e.g. data.batch=4")
    words.add_argument("--resume", action="store_true", help="resume; an error where there is no checkpoint")
    words.add_argument("--fresh", action="store_true", help="start anew in a folder beside an existing one")
    return words


def main(arguments: list[str]) -> int:
    words = parser().parse_args(arguments, argparse.Namespace(typed=arguments))
    if words.list:
        _list()
        return 0
    if not words.exp:
        raise UserError("--exp is missing: name an experiment, for example --exp dme_isles18; --list shows them all")
    if words.resume and words.fresh:
        raise UserError("--resume and --fresh contradict each other: give one of them")
    wanted = _experiment(words)
    folder = Path(words.out) if words.out else _default_folder(wanted)
    if job.needs_watching():
        return job.watch("train", arguments)
    job.mute_all_but_first()
    console.say(f"jaxstroke: {wanted.name} ({wanted.scale} scale): {wanted.title}")
    console.say("loading jax ...")
    with job.joined():
        return _train(wanted, folder, words)


def _experiment(words: argparse.Namespace) -> Experiment:
    wanted = catalogue.load(words.exp, scale=words.scale)
    changed: dict[str, object] = {**overrides.parse_assignments(words.set)}
    for path, value in (("data.fold", words.fold), ("training.epochs", words.epochs)):
        changed |= {} if value is None else {path: value}
    return overrides.override(wanted, changed)


def _default_folder(wanted: Experiment) -> Path:
    parts = [wanted.name, *(["small"] if wanted.scale == "small" else [])]
    parts += [f"fold-{wanted.data.fold}"] if wanted.data.fold else []
    return Path("runs") / "-".join(parts)


def _again(words: argparse.Namespace, folder: Path) -> list[str]:
    """The words that go on with the run: those that were typed, but for `--fresh`, which would begin another one."""
    if not words.fresh:
        return words.typed
    typed = [word for word in words.typed if not (word.startswith("--fr") and "--fresh".startswith(word))]
    return [*typed, "--out", str(folder)]


def _list() -> None:
    for name in catalogue.names():
        one = catalogue.load(name)
        console.say(f"{name:36} {one.title}")


def _train(wanted: Experiment, folder: Path, words: argparse.Namespace) -> int:
    from jaxstroke.runs import folder as runs

    if words.fresh:
        folder = Path(job.said_by_first(str(runs.beside(folder))))
    run = runs.RunFolder(folder)
    if run.exists():
        run.check_same(wanted)
    elif words.resume:
        raise UserError(f"--resume: {folder} holds no run; leave --resume away to start one there")
    with run.locked() if job.first() else contextlib.nullcontext():
        return _train_locked(wanted, run, words)


def _train_locked(wanted: Experiment, run: RunFolder, words: argparse.Namespace) -> int:
    from jaxstroke.data.cache.fingerprint import FORMAT
    from jaxstroke.data.source import ENVIRONMENT, named_folder, open_source
    from jaxstroke.runs import folder as runs

    if words.resume and not run.checkpoints().steps():
        raise UserError(
            f"--resume: {run.path} holds no finished checkpoint; leave --resume away to start from the beginning"
        )

    from jaxstroke import sharding, user_cache
    from jaxstroke.process import compiled_programs

    compiled_programs.keep()
    with job.first_goes_first():
        source = open_source(wanted.data, named_folder(words.data), user_cache.folder())
        if source.phantom:
            console.say(
                f"*** {console.PHANTOM_NOTICE} Give --data PATH or set {ENVIRONMENT} to use {source.layout.title}. ***"
            )
        cache, split = _prepared(wanted, source)
        data = {
            "data": str(source.root.absolute()),
            "data_fingerprint": cache.fingerprint,
            "cache_format": FORMAT,
            "phantom": source.phantom,
            "split": dataclasses.asdict(split),
        }
        about = runs.describe(device=sharding.describe(), seed=wanted.training.seed, data=data)
        if job.first():
            run.start(wanted, about)
    console.say(
        f"{len(split.train)} studies to train on, {len(split.validation)} to validate, "
        f"{len(split.test)} held out for testing"
    )
    code = 0
    if wanted.cascade.stage1_networks:
        code, cache = _first_stage(wanted, run, cache, split, about)
    code = code or _run(wanted, run, cache, split, phantom=source.phantom)
    if code:
        console.next_command("train", *_again(words, run.path))
    else:
        console.next_command("evaluate", str(run.path))
    return code


def _prepared(wanted: Experiment, source: Source) -> tuple[Cache, Split]:
    """The studies that can be trained on, prepared, and which of them are for what."""
    from jaxstroke import user_cache
    from jaxstroke.data.cache.building import build_cache
    from jaxstroke.data.splits import split as split_patients

    annotated = tuple(case for case in source.cases if all(target in case.masks for target in wanted.data.targets))
    if not annotated:
        raise UserError(f"{source.root}: no study there has the annotation {', '.join(wanted.data.targets)}")
    split = split_patients(
        {case.study: case.patient for case in annotated},
        folds=wanted.data.folds,
        fold=wanted.data.fold,
        validation_fraction=wanted.data.validation_fraction,
        seed=wanted.training.seed,
        fixed_test=source.layout.fixed_test(source.root),
    )
    with console.bar("preparing", len(annotated), "studies") as advance:
        return build_cache(annotated, wanted.data, user_cache.folder() / "prepared", advance), split


def _first_stage(
    wanted: Experiment, run: RunFolder, cache: Cache, split: Split, about: dict[str, Any]
) -> tuple[int, Cache]:
    """Trains the first stage; returns what the process should end with, and the cache with its maps."""
    from jaxstroke import user_cache
    from jaxstroke.inference.cascade import first_stage, stage1_folders
    from jaxstroke.training.cascade import stage1_splits, with_synthetic_maps

    patients = {study.study: study.patient for study in cache.studies}
    splits = stage1_splits(split, patients, wanted.cascade.stage1_networks, seed=wanted.training.seed)
    for folder, own in zip(stage1_folders(run.path, wanted), splits, strict=True):
        console.say(f"first stage, {folder.path.name}: trains on {len(own.train)} studies, maps {len(own.test)}")
        first = first_stage(wanted)
        if job.first():
            folder.start(first, {**about, "split": dataclasses.asdict(own)})
        code = _run(first, folder, cache, own, phantom=about["phantom"])
        if code:
            return code, cache
    console.say("second stage: the synthetic map is one more image")
    with job.first_goes_first():
        return 0, with_synthetic_maps(wanted, cache, splits, run, user_cache.folder() / "prepared")


def _run(wanted: Experiment, run: RunFolder, cache: Cache, split: Split, *, phantom: bool) -> int:
    """Trains one network in its run folder; returns what the process should end with."""
    from jaxstroke.pictures import plots
    from jaxstroke.training.display import Report
    from jaxstroke.training.loop import Training

    with Report(run.path / "events" if job.first() else None, phantom=phantom) as report:
        training = Training(wanted, cache, split, run, report)
        first = training.start()
        if first:
            console.say(f"resuming {run.path} from step {first}")
        if first < training.last_step:
            console.say(f"compiling {wanted.model.name}: the first step takes a while, the others do not")
        ending = training.run(first)
    if not job.first():
        return ending.code
    rows = run.journal.rows()
    if rows:
        plots.curves(rows, run.path / "curves.png", phantom=phantom)
    console.say(f"ended after epoch {ending.epoch} (step {ending.step}): {ending.reason}")
    best = max((row for row in rows if row["dice"] is not None), key=lambda row: row["dice"], default=None)
    if best:
        mark = " [phantom]" if phantom else ""
        console.say(f"best validation Dice {best['dice']:.3f} in epoch {best['epoch']}{mark}; all is in {run.path}")
    return ending.code


if __name__ == "__main__":
    door.run(main)
