"""Training in two stages: networks of the first make a synthetic map, which the second takes as an image.

A network maps the studies that it was trained on too well: its map then carries their annotations, and the second
stage learns to trust it more than it may on a new patient.  So the training patients are dealt to N networks of the
first stage; each trains on the others' patients and maps its own.  A study outside training gets the mean of all N
maps, in validation, in testing and in use.

    RUN/stage1-0 ... RUN/stage1-(N-1)     run folders of the first stage
    RUN                                   the run folder of the second
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from jaxstroke import console
from jaxstroke.data.cache.building import derive_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.splits import Split, deal
from jaxstroke.experiment import Experiment
from jaxstroke.inference.cascade import SYNTHETIC, mean_map, stage1_folders
from jaxstroke.inference.predictor import Predictor
from jaxstroke.runs.folder import RunFolder


def stage1_splits(split: Split, patients: Mapping[str, str], count: int, *, seed: int) -> list[Split]:
    """For each network of the first stage: what it trains on and, as its `test`, the training studies that it maps.

    One network alone trains on every training study and maps them all: in-sample.
    """
    if count == 1:
        return [dataclasses.replace(split, test=split.train)]
    own = deal({study: patients[study] for study in split.train}, count, seed=seed)
    return [
        Split(
            train=tuple(study for study in split.train if patients[study] not in mapped),
            validation=split.validation,
            test=tuple(study for study in split.train if patients[study] in mapped),
        )
        for mapped in own
    ]


def with_synthetic_maps(
    experiment: Experiment, cache: Cache, splits: list[Split], run: RunFolder, folder: Path
) -> Cache:
    """Returns the cache with the synthetic map as one more image of every study."""
    stages = stage1_folders(run.path, experiment)
    predictors = [Predictor.of_run(stage, intermediates=(SYNTHETIC,)) for stage in stages]
    maps_of = {study: [predictor] for predictor, one in zip(predictors, splits, strict=True) for study in one.test}
    with console.bar("making synthetic maps", len(cache.studies), "studies") as advance:
        return derive_cache(
            cache,
            folder,
            name=SYNTHETIC,
            made_by=[stage.checkpoints().seal() for stage in stages],
            channel=lambda study, images: mean_map(maps_of.get(study, predictors), images),
            progress=advance,
        )
