"""The papers' figures: declared ones can be drawn, they show what the network showed, and phantoms are marked."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Text
from small_runs import PLACES, above_half, evaluated_run, shifted

from jaxstroke import papers
from jaxstroke.inference.cascade import SYNTHETIC
from jaxstroke.inference.predictor import available
from jaxstroke.inference.system import System
from jaxstroke.judging import kept
from jaxstroke.papers import drawn
from jaxstroke.papers.declared import Figure
from jaxstroke.pictures import agreement, plots
from jaxstroke.runs.folder import RunFolder

HOW = {"scale": "small", "repeats": None, "data": {}}
TITLE = "a gate between what is remembered of the slices before and what is known of heads, both as the paper has them"
GATE = Figure("x-fig1", TITLE, "A paper, Fig. 1", "mdanet-2", "U-Net", "maps", {"memory_gate/gate": "gate"})


@pytest.mark.parametrize("figure", papers.figures(papers.chosen()), ids=lambda figure: figure.name)
def test_a_declared_figure_can_be_drawn(figure: Figure) -> None:
    run = drawn.planned(figure, papers.chosen(), **HOW)
    if figure.draws in ("kappa", "readers"):
        assert not figure.maps and run.experiment.data.layout == "two_reader"
        return
    shown = {*available(run.experiment), *([SYNTHETIC] if run.experiment.cascade.stage1_networks else [])}
    assert figure.maps and set(figure.maps) <= shown


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[Drawing]:
    """Every drawing that is saved."""
    found: list[Drawing] = []
    save, other = plots.save, agreement._save  # pyright: ignore[reportPrivateUsage]

    def keep(figure: Drawing, path: Path) -> None:
        found.append(figure)
        save(figure, path)

    def keep_other(figure: Drawing, *words: Any, **named: Any) -> None:
        found.append(figure)
        other(figure, *words, **named)

    monkeypatch.setattr("jaxstroke.pictures.maps.save", keep)
    monkeypatch.setattr(agreement, "_save", keep_other)
    return found


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Judged on four phantoms; its network shows a gate that grows from 0 at the first column to 1 at the last."""
    made = evaluated_run(tmp_path)
    about = {**made.about(), "split": {"train": [], "validation": [], "test": _studies(made)}, "layout": "isles2022"}
    answering = System("unet_isles22", "U-Net", ("DWI", "ADC"), shifted, above_half)
    monkeypatch.setattr(drawn.system, "trained", lambda runs, intermediates: (answering, made.experiment()))
    monkeypatch.setattr(RunFolder, "about", lambda self: about)
    return made


def _studies(run: RunFolder) -> list[str]:
    return [f"sub-strokecase{number:04}" for number in range(1, len(PLACES) + 1)]


def told(drawing: Drawing) -> str:
    """All words of a drawing, whose title is no wider than itself: the mark had been cut off."""
    title = drawing._suptitle  # pyright: ignore
    assert title.get_window_extent(FigureCanvasAgg(drawing).get_renderer()).width <= drawing.bbox.width  # pyright: ignore
    return "\n".join(text.get_text() for text in drawing.findobj(Text))  # pyright: ignore


def images(drawing: Drawing) -> list[np.ndarray]:
    return [np.asarray(axis.images[0].get_array(), float) for axis in drawing.axes if axis.images]


def test_maps_stand_beside_the_images_of_the_studies(run: RunFolder, tmp_path: Path, drawings: list[Drawing]) -> None:
    drawn.of_run(GATE, run, tmp_path / "out.png")
    (drawing,) = drawings
    shown = images(drawing)
    assert len(shown) == 2 * 3 and (tmp_path / "out.png").stat().st_size < 150_000
    assert "phantom data" in told(drawing) and "A paper, Fig. 1: a gate" in told(drawing)
    assert sum(study in told(drawing) for study in _studies(run)) == 3
    for image, gate in zip(shown[::2], shown[1::2], strict=True):
        assert (image == (230, 126, 0)).all(-1).any() and (image == (86, 180, 233)).all(-1).any(), "both outlines"
        brightness = gate.sum(axis=(0, 2))
        assert (np.diff(brightness) >= 0).all() and brightness[-1] > 5 * brightness[0]


def test_a_map_along_the_slices(run: RunFolder, tmp_path: Path, drawings: list[Drawing]) -> None:
    drawn.of_run(dataclasses.replace(GATE, draws="slices"), run, tmp_path / "out.png")
    (drawing,) = drawings
    assert len(images(drawing)) == 2 * 6, "each of six slices with its map"
    whole, inside = drawing.axes[-1].lines
    assert len(whole.get_ydata()) == 6 and np.ptp(np.asarray(whole.get_ydata())) < 1e-6
    assert np.flatnonzero(np.isfinite(np.asarray(inside.get_ydata(), float))).tolist() == [2, 3], "where the lesion is"
    assert "phantom data" in told(drawing)


def test_readers_and_the_network(run: RunFolder, tmp_path: Path, drawings: list[Drawing]) -> None:
    """Three masks of a row of ten voxels: 0 to 6, 2 to 8 and 0 to 8, whose Dice and kappa are known."""
    masks = {"reference R1": (0, 6), "reference R2": (2, 8), run.experiment().name: (0, 8)}
    lines = []
    for study in _studies(run):
        for maker, (first, last) in masks.items():
            mask = np.zeros((1, 1, 10), bool)
            mask[..., first:last] = True
            lines.append(kept.line(study, "ADC/R1", maker, mask))
    kept.write(run.path / "evaluation" / "test" / kept.FILE, lines)
    drawn.of_run(dataclasses.replace(GATE, draws="readers"), run, tmp_path / "readers.png")
    drawn.of_run(dataclasses.replace(GATE, draws="kappa"), run, tmp_path / "kappa.png")
    readers, kappas = drawings
    points = np.asarray(readers.axes[0].collections[0].get_offsets())
    np.testing.assert_allclose(points, [[(12 / 14 + 8 / 12) / 2, 12 / 14 - 8 / 12]] * len(PLACES))
    assert "ADC" in told(readers) and "phantom data" in told(readers) and "phantom data" in told(kappas)
    # of R1 and R2: .6 agreed, by chance .6 * .6 + .4 * .4 = .52: .08 / .48 = .167
    assert "ADC: reference R1, reference R2: slight" in told(kappas)
    # of R1 and the network: .8 agreed, by chance .6 * .8 + .4 * .2 = .56: .24 / .44 = .545
    assert f"ADC: reference R1, {run.experiment().name}: moderate" in told(kappas)


def test_it_is_drawn_when_its_run_was_judged_and_again_when_it_was_judged_anew(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = drawn.planned(GATE, papers.chosen(), **HOW)
    assert not drawn.draw(GATE, planned, tmp_path / "out"), "no run lies there"
    monkeypatch.setattr(type(planned), "run", run.path)
    monkeypatch.setattr(type(planned), "split", "test")
    monkeypatch.setattr(drawn, "is_judged", lambda one: True)
    summary = run.path / "evaluation" / "test" / "summary.json"
    summary.write_text("{}")
    assert drawn.draw(GATE, planned, tmp_path / "out") and not drawn.draw(GATE, planned, tmp_path / "out")
    later = (tmp_path / "out" / GATE.file_name).stat().st_mtime + 5
    os.utime(summary, (later, later))
    assert drawn.draw(GATE, planned, tmp_path / "out")
