"""The papers' figures of what a network looks at and of how readers agree, drawn of a run that a table has made.

A figure is drawn once its run lies there trained and judged, and again when the run was judged anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke.data.case import Case
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.inference import held_out, system
from jaxstroke.judging import judged, kept
from jaxstroke.metrics import statistics
from jaxstroke.metrics.overlap import dice
from jaxstroke.papers import plan
from jaxstroke.papers.declared import Figure, Table
from jaxstroke.papers.measure import is_judged, judged_at
from jaxstroke.pictures import agreement, maps
from jaxstroke.pictures.maps import Looked
from jaxstroke.runs.folder import RunFolder

_PLACES = (0.25, 0.5, 0.75)  # of the held-out studies in the order of their Dice: neither the worst nor the best


def planned(figure: Figure, tables: Sequence[Table], **how: Any) -> plan.Planned:
    """The run that a figure is drawn of: the first of its row."""
    (table,) = (table for table in tables if table.name == figure.table)
    return plan.planned(table, next(row for row in table.rows if row.name == figure.row), **how)[0]


def draw(figure: Figure, one: plan.Planned, folder: Path) -> bool:
    """Draws it where its run lies there and it is not drawn yet; says whether it did."""
    path = folder / figure.file_name
    if not one.run.is_dir() or not is_judged(one):
        return False
    if path.is_file() and path.stat().st_mtime >= judged_at(one):
        return False
    data = None if one.data is None else str(one.data)
    of_run(figure, RunFolder(one.run), path, split=one.split, data=data)
    return True


def of_run(figure: Figure, run: RunFolder, path: Path, *, split: str = "test", data: str | None = None) -> None:
    """Draws a figure of any run whose network and data fit it."""
    title, phantom = f"{figure.where}: {figure.title}", bool(run.about()["phantom"])
    if figure.draws == "kappa":
        agreement.kappas(_kappas(run, split), path, phantom=phantom, title=title)
    elif figure.draws == "readers":
        _readers(run, split, path, title, phantom=phantom)
    else:
        looked = _looked(figure, run, split, data)
        if figure.draws == "maps":
            maps.beside(looked, path, title=title, phantom=phantom)
        else:
            maps.along_slices(looked[0], path, title=title, phantom=phantom)


def _looked(figure: Figure, run: RunFolder, split: str, data: str | None) -> list[Looked]:
    """Studies at the quartiles of Dice; along slices, the one with most of them."""
    trained, experiment = system.trained([run], intermediates=tuple(figure.maps))
    cases = {case.study: case for case in held_out.held_out(run, experiment.data, split="test", folder=data).cases}
    target = experiment.data.targets[0]
    scored = judged.read(run.path, split)[0].rows
    found = {study: row["dice"] for (study, own), row in scored.items() if own == target}
    order = sorted((study for study, score in found.items() if not math.isnan(score)), key=lambda one: found[one])
    order = order or list(cases)
    chosen = list(dict.fromkeys(order[int(place * len(order))] for place in _PLACES))
    looked = [_look(trained, cases[study], experiment.data.channels, target, figure) for study in chosen]
    return sorted(looked, key=lambda one: -len(one.mask)) if figure.draws == "slices" else looked


def _look(trained: system.System, case: Case, images: Sequence[str], target: str, figure: Figure) -> Looked:
    study = read_with(trained.preparation, case, tuple(images), (target,))
    answer = trained.answer(study)
    shown = {figure.maps[name]: values for name in figure.maps for path, values in answer.maps.items() if path == name}
    mask = trained.mask(answer.probabilities[..., 0], study.spacing_mm)
    return Looked(study, study.masks[target], mask, shown)


def _kappas(run: RunFolder, split: str) -> dict[str, list[float]]:
    """Of every two that drew in the same image, with Landis and Koch's word for the mean."""
    found = {}
    for (target, first, second), values in kept.kappas(_masks(run, split)).items():
        defined = [value for value in values if not math.isnan(value)]
        mean = float(np.mean(defined)) if defined else math.nan
        found[f"{target.partition('/')[0]}: {first}, {second}: {statistics.agreement_level(mean)}"] = values
    return found


def _readers(run: RunFolder, split: str, path: Path, title: str, *, phantom: bool) -> None:
    """Dice of the network and of the second reader, both against the first: a panel an image, as Bland and Altman."""
    panels: dict[str, Any] = {}
    name = run.experiment().name
    for (_, target), drawn in _masks(run, split).items():
        readers = sorted(maker for maker in drawn if maker != name)
        if len(readers) > 1 and name in drawn:
            ours, theirs = panels.setdefault(target.partition("/")[0], ([], []))
            ours.append(dice(drawn[name], drawn[readers[0]]))
            theirs.append(dice(drawn[readers[1]], drawn[readers[0]]))
    told = {image: (*pair, *_limits(*pair)) for image, pair in panels.items()}
    agreement.bland_altman(
        told, path, phantom=phantom, title=title, axes_told=("mean of both Dice", "network - second reader")
    )


def _limits(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    found = statistics.bland_altman(ours, theirs)
    return found.mean_difference, found.lower_limit, found.upper_limit


def _masks(run: RunFolder, split: str) -> kept.Masks:
    return kept.read(run.path, split, [run.experiment().name])
