"""How calibrated runs answer, judged for a table: by which rule, alone or together, and on studies made unlike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke import console
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.study import Study
from jaxstroke.inference import evaluation, held_out, members, system
from jaxstroke.inference.held_out import HeldOut
from jaxstroke.inference.system import System
from jaxstroke.metrics.rules import find_rules
from jaxstroke.papers.declared import Answers
from jaxstroke.runs.folder import RunFolder

Rows = list[dict[str, Any]]


def are_calibrated(runs: Sequence[RunFolder]) -> bool:
    """Each of them, and their mean, with the weights that they have."""
    if not all((run.path / "calibration.json").is_file() for run in runs):
        return False
    together = members.read(runs)
    return len(runs) == 1 or members.joint(together) is not None


def judge(runs: Sequence[RunFolder], how: Answers, *, rules: str, folder: Path | None) -> Rows:
    """A row for each held-out study: its scores, whether the interval held its volume, whether it is called unlike."""
    own = "" if how.calibrated else runs[0].experiment().evaluation.choose_by  # which leaves the calibration out
    trained, experiment = system.trained(runs, choose_by=own, mirrored=how.mirrored)
    studies = held_out.held_out_from_all(runs, split="test", folder=None if folder is None else str(folder))
    if how.change:
        return _called(trained, studies, CHANGES[how.change], experiment.data.targets)
    with console.bar(f"judging, {how.name}", len(studies.cases), "studies") as advance:
        rows = evaluation.evaluate(
            [trained],
            studies.cases,
            images=experiment.data.channels,
            targets=experiment.data.targets,
            preparation=trained.preparation,
            rules=find_rules(rules),
            advance=advance,
        )
    return [{**row, **_sure(row, trained)} for row in rows]


def _sure(row: dict[str, Any], trained: System) -> dict[str, float]:
    found = {"called_unlike": float(bool(row["unlike"]))} if "unlike" in row else {}
    interval = trained.doubts.interval(row["target"], row["volume_ml"])
    if interval is not None:
        found["held"] = float(interval.low_ml <= row["reference_volume_ml"] <= interval.high_ml)
    return found


def _called(trained: System, studies: HeldOut, change: Change, targets: Sequence[str]) -> Rows:
    """Of studies that were changed there is nothing to score but the flag."""
    rows, rng = [], np.random.default_rng(0)
    with console.bar("looking at changed studies", len(studies.cases), "studies") as advance:
        for case in studies.cases:
            answer = trained.answer(change(read_with(trained.preparation, case, trained.needs), rng))
            called = float(bool(trained.doubts.unlike(answer)))
            rows.append({"study": case.study, "target": targets[0], "system": trained.name, "called_unlike": called})
            advance(1, note=case.study)
    return rows


def _noisy(study: Study, rng: np.random.Generator) -> Study:
    return _each(study, lambda image: image + (image != 0) * rng.normal(0, image[image != 0].std(), image.shape))


def _in_other_units(study: Study, rng: np.random.Generator) -> Study:
    del rng
    return dataclasses.replace(study, images={**study.images, "ADC": study.images["ADC"] / 1000})


def _sides_exchanged(study: Study, rng: np.random.Generator) -> Study:
    del rng
    return _each(study, lambda image: image[:, :, ::-1])


def _voxels_twice_as_large(study: Study, rng: np.random.Generator) -> Study:
    del rng
    slices, rows, columns = study.spacing_mm
    return dataclasses.replace(study, spacing_mm=(2 * slices, 2 * rows, 2 * columns))


def _each(study: Study, change: Callable[[np.ndarray], np.ndarray]) -> Study:
    images = {word: np.ascontiguousarray(change(image), dtype=np.float32) for word, image in study.images.items()}
    return dataclasses.replace(study, images=images)


Change = Callable[[Study, np.random.Generator], Study]
CHANGES: dict[str, Change] = {
    "noise": _noisy, "units": _in_other_units, "sides": _sides_exchanged, "spacing": _voxels_twice_as_large,
}  # fmt: skip
