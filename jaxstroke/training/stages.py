"""A training from its data to its end: the studies prepared, a first stage where there is one, the network."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxstroke import console, sharding, user_cache
from jaxstroke.data import stream
from jaxstroke.data.cache.building import Share, build_cache
from jaxstroke.data.cache.fingerprint import FORMAT
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.source import ENVIRONMENT, Source, named_folder, open_source
from jaxstroke.data.splits import Split
from jaxstroke.data.splits import split as split_patients
from jaxstroke.experiment import Experiment
from jaxstroke.inference.cascade import first_stage, stage1_folders
from jaxstroke.pictures import plots
from jaxstroke.process import compiled_programs, job
from jaxstroke.runs import folder as runs
from jaxstroke.runs.folder import RunFolder
from jaxstroke.training import program
from jaxstroke.training.cascade import stage1_splits, with_synthetic_maps
from jaxstroke.training.display import Report
from jaxstroke.training.loop import Training
from jaxstroke.training.trace import Trace


def train(
    experiment: Experiment,
    run: RunFolder,
    *,
    data: str | None,
    layout: str,
    keep_going: bool,
    profile: tuple[int, int] | None = None,
    wandb: bool = False,
) -> int:
    """Trains an experiment in its run folder, or goes on there; returns what the process should end with.

    `profile` are a number of steps and how many after them are traced, of a cascade's second stage; with `wandb` the
    figures go to Weights & Biases too.
    """
    compiled_programs.keep()
    program.check(experiment, sharding.make_mesh())  # before data are prepared, which may take an hour
    with job.first_goes_first():
        source = open_source(experiment.data, named_folder(data), user_cache.folder(), layout)
        if source.phantom:
            console.say(
                f"*** {console.PHANTOM_NOTICE} Give --data PATH or set {ENVIRONMENT} to use {source.layout.title}. ***"
            )
    cache, split = _prepared(experiment, source, keep_going=keep_going)
    about = _about(experiment, source, cache, split)
    with job.first_goes_first():
        if job.first():
            run.start(experiment, about)
    console.say(
        f"{len(split.train)} studies to train on, {len(split.validation)} to validate, "
        f"{len(split.test)} held out for testing"
    )
    if experiment.cascade.stage1_networks:
        code, cache = _first_stage(experiment, run, cache, split, about, wandb=wandb)
        if code:
            return code
    trace = Trace(run.path / "profile", *profile) if profile else None
    return _network(experiment, run, cache, split, phantom=source.phantom, trace=trace, wandb=wandb)


def _about(experiment: Experiment, source: Source, cache: Cache, split: Split) -> dict[str, Any]:
    data = {
        "data": str(source.root.absolute()),
        "data_fingerprint": cache.fingerprint,
        "cache_format": FORMAT,
        "layout": source.layout.name,
        "phantom": source.phantom,
        "split": dataclasses.asdict(split),
    }
    return runs.describe(device=sharding.describe(), seed=experiment.training.seed, data=data)


def _prepared(experiment: Experiment, source: Source, *, keep_going: bool) -> tuple[Cache, Split]:
    """The studies that can be trained on, prepared, and which of them are for what."""
    annotated = source.annotated(experiment.data.targets)
    centres = {case.study: case.centre for case in annotated} if experiment.data.split_by == "centre" else None
    split = split_patients(
        {case.study: case.patient for case in annotated},
        folds=experiment.data.folds,
        fold=experiment.data.fold,
        validation_fraction=experiment.data.validation_fraction,
        seed=experiment.training.seed if experiment.data.split_seed is None else experiment.data.split_seed,
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
    experiment: Experiment, run: RunFolder, cache: Cache, split: Split, about: dict[str, Any], *, wandb: bool
) -> tuple[int, Cache]:
    """Trains the first stage; returns what the process should end with, and the cache with its maps."""
    patients = {study.study: study.patient for study in cache.studies}
    splits = stage1_splits(split, patients, experiment.cascade.stage1_networks, seed=experiment.training.seed)
    for folder, own in zip(stage1_folders(run.path, experiment), splits, strict=True):
        console.say(f"first stage, {folder.path.name}: trains on {len(own.train)} studies, maps {len(own.test)}")
        stage1 = first_stage(experiment)
        if job.first():
            folder.start(stage1, {**about, "split": dataclasses.asdict(own)})
        code = _network(stage1, folder, cache, own, phantom=about["phantom"], wandb=wandb)
        if code:
            return code, cache
    console.say("second stage: the synthetic map is one more image")
    with job.first_goes_first():
        return 0, with_synthetic_maps(experiment, cache, splits, run, user_cache.folder() / "prepared")


def _network(
    experiment: Experiment, run: RunFolder, cache: Cache, split: Split, *, phantom: bool, wandb: bool,
    trace: Trace | None = None,
) -> int:  # fmt: skip
    """Trains one network in its run folder; returns what the process should end with."""
    steps = stream.steps_per_epoch(cache, split.train, experiment)
    built = program.build(experiment, sharding.make_mesh(), steps_per_epoch=steps)
    also = None
    if wandb and job.first():
        from jaxstroke.training.weights_and_biases import WeightsAndBiases

        also = WeightsAndBiases(run.path, dataclasses.asdict(experiment), phantom=phantom)
    with Report(run.path / "events" if job.first() else None, phantom=phantom, also=also) as report:
        training = Training(built, cache, split, run, report, trace)
        first_step = training.start()
        if trace:
            trace.check(first_step, training.last_step)
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
