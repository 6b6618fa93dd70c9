"""Training in two stages: networks of the first make a synthetic map, which the second takes as an image.

A network maps the studies that it was trained on too well: its map then carries their annotations, and the second
stage learns to trust it more than it may on a new patient.  So the training patients are dealt to N networks of the
first stage; each trains on the others' patients and maps its own.  A study outside training gets the mean of all N
maps, in validation, in testing and in use.  All maps are aligned first (`inference.cascade`).

    RUN/stage1-0 ... RUN/stage1-(N-1)     run folders of the first stage
    RUN                                   the run folder of the second
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxstroke import console, files
from jaxstroke.data.cache.building import derive_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.splits import Split, deal
from jaxstroke.experiment import Experiment
from jaxstroke.inference.cascade import (
    POLARITY,
    SYNTHETIC,
    aligned_map,
    head_in,
    lesion_contrast,
    recorded_sign,
    stage1_folders,
)
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
    if run.checkpoints().steps():  # of a second stage that was trained on maps: the same, or it cannot go on
        for stage in stages:
            recorded_sign(stage)
    networks = [Predictor.of_run(stage, intermediates=(SYNTHETIC,)) for stage in stages]
    signed = [
        (network, _sign(stage, network, cache, one.train))
        for stage, network, one in zip(stages, networks, splits, strict=True)
    ]
    own = {study: [one] for one, split in zip(signed, splits, strict=True) for study in split.test}
    with console.bar("making synthetic maps", len(cache.studies), "studies") as advance:
        return derive_cache(
            cache,
            folder,
            name=SYNTHETIC,
            made_by=[f"{sign} {stage.checkpoints().seal()}" for stage, (_, sign) in zip(stages, signed, strict=True)],
            channel=lambda study, images: aligned_map(own.get(study, signed), images),
            progress=advance,
        )


def _sign(stage: RunFolder, network: Predictor, cache: Cache, trained_on: Sequence[str]) -> int:
    """Whether lesion is bright (1) or dark (-1) in a network's maps of its training studies; kept with its weights."""
    path, checkpoints = stage.path / POLARITY, stage.checkpoints().seal()
    if path.exists() and files.read_sealed(path).get("checkpoints") == checkpoints:
        return recorded_sign(stage)
    contrasts = []
    for study in trained_on:
        images, masks = (np.asarray(cache.array(study, kind)) for kind in ("images", "masks"))
        shown = network.prepared(images).maps[SYNTHETIC]
        contrasts.append(lesion_contrast(shown, masks[..., 0] > 0, head_in(images)))
    defined = [one for one in contrasts if math.isfinite(one)]
    mean = float(np.mean(defined)) if defined else 0.0
    sign = -1 if mean < 0 else 1
    files.write_sealed(path, {"sign": sign, "lesion_minus_rest": mean, "checkpoints": checkpoints})
    return sign
