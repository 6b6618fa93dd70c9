"""Several networks and mirrored copies as one answer: means that a hand finds, and members that are refused by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_runs import above_half, drawn_run, small_experiment
from small_studies import isles2022_root, lesion

import jaxstroke
from jaxstroke import evaluate, files, predict
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.prepare import prepare, restore
from jaxstroke.data.study import Study, read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Augment
from jaxstroke.inference import held_out, many, members
from jaxstroke.inference.ensemble import Ensemble, copies
from jaxstroke.inference.members import Member
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.judging import folds
from jaxstroke.runs.folder import RunFolder

SHAPE = (2, 32, 32)
NAMES = ["sub-strokecase0001", "sub-strokecase0002", "sub-strokecase0003"]
SPLIT = {"train": [], "validation": [NAMES[0]], "test": NAMES[1:]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one network, and the data that both held two studies out of."""
    folder = tmp_path_factory.mktemp("ensemble")
    isles2022_root(folder / "data", [lesion(SHAPE, {1: (12, 12)}, side=6)] * 3)
    for seed in (1, 2):
        drawn_run(folder / f"run-{seed}", seed, data=folder / "data", split=SPLIT)
    return folder


@pytest.fixture(scope="module")
def study(place: Path) -> Study:
    return read_study(find_layout("isles2022").find(place / "data")[0], images=("DWI", "ADC"))


def runs(place: Path) -> list[RunFolder]:
    return [RunFolder(place / "run-1"), RunFolder(place / "run-2")]


# --- what is answered ------------------------------------------------------------------------------------------------


def test_two_runs_answer_with_their_mean_from_one_compiled_program(place: Path, study: Study) -> None:
    both = members.read(runs(place))
    together = Ensemble(both, mirrored=False)
    answer = together.study(study).probabilities
    (program,) = together._compiled.values()
    each = []
    for one in both:
        program.replace_weights(jax.device_put(one.weights))
        prepared = prepare(study, one.experiment.data)
        each.append(restore(program.prepared(prepared.images).probabilities, prepared.inverse))
    assert np.abs(each[0] - each[1]).max() > 1e-3, "two different networks"
    np.testing.assert_allclose(answer, (each[0] + each[1]) / 2, rtol=1e-6, atol=1e-7)
    assert program._run._cache_size() == 1  # type: ignore[union-attr]
    assert together.passes == 2 and together.cost().startswith("2 runs: 2 network passes a study, ")
    together._at.clear()  # the program has other weights than it thinks
    np.testing.assert_array_equal(together.study(study).probabilities, answer)
    alone = Ensemble(both[:1], mirrored=False)
    alone._compiled[0] = program
    np.testing.assert_array_equal(alone.study(study).probabilities, each[0])


class Known:
    """Stands for a network: what it answers is a function of the prepared images."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def replace_weights(self, weights: Any) -> None:
        self.weights = weights

    def prepared(self, images: np.ndarray) -> Answer:
        values = np.asarray(self._answer(images, self.weights), np.float32)
        return Answer(values[..., None], {"map": values})


def known(monkeypatch: pytest.MonkeyPatch, answer: Any, *weights: float, **flips: bool) -> Ensemble:
    """An ensemble of members that answer so, each with its own number as weights."""
    monkeypatch.setattr(Ensemble, "_compile", lambda self, member, weights: Known(answer))
    experiment = dataclasses.replace(small_experiment(), augment=Augment(**flips))
    made = [Member(RunFolder(Path(str(one))), experiment, np.float32(one), 0) for one in weights]
    return Ensemble(made, mirrored=True)


def test_the_copies_are_those_of_the_augmentation() -> None:
    assert copies(Augment()) == [()]
    assert copies(Augment(flip_left_right=True)) == [(), (2,)]
    assert copies(Augment(flip_left_right=True, flip_front_back=True)) == [(), (1,), (2,), (1, 2)]
    assert copies(Augment(flip_left_right=True, probability=0.0)) == [()]


def test_mirrored_copies_are_flipped_back(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that looks at each pixel alone answers as without copies; one that says the column, w / (W - 1), comes
    to one half everywhere within what was kept of the plane; its map goes with it."""
    of_pixel = known(monkeypatch, lambda images, _: images[..., 0] / 8, 1, flip_left_right=True, flip_front_back=True)
    mirrored = of_pixel.study(study)
    plain = known(monkeypatch, lambda images, _: images[..., 0] / 8, 1).study(study)
    np.testing.assert_allclose(mirrored.probabilities, plain.probabilities, atol=1e-6)
    of_column = known(
        monkeypatch,
        lambda images, _: np.broadcast_to(np.linspace(0, 1, images.shape[2]), images.shape[:3]),
        1,
        flip_left_right=True,
    )
    answer = of_column.study(study)
    inner = (slice(None), slice(12, 20), slice(12, 20))
    np.testing.assert_allclose(answer.probabilities[inner], 0.5, atol=1e-6)
    np.testing.assert_allclose(answer.maps["map"][inner], 0.5, atol=1e-6)
    assert of_column.cost().startswith("1 run, 1 mirrored copies: 2 network passes")


def test_members_count_alike_however_many_copies_each_has(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that say .2 and .8 everywhere, the first with two copies: .5, not .4."""
    made = known(monkeypatch, lambda images, weight: np.full(images.shape[:3], weight), 0.2, 0.8)
    made._copies = [[(), (2,)], [()]]
    inner = made.study(study).probabilities[:, 12:20, 12:20]
    np.testing.assert_allclose(inner, 0.5, atol=1e-6)
    assert made.passes == 3


# --- who may answer together -----------------------------------------------------------------------------------------


def test_a_member_that_is_missing_broken_or_of_another_kind_is_named(place: Path, tmp_path: Path) -> None:
    first = place / "run-1"
    with pytest.raises(UserError, match="gone: this is no run folder"):
        predict.main([str(first), str(place / "gone"), str(place / "data"), "-o", str(tmp_path / "out")])
    with pytest.raises(UserError, match="run-1: this run is named twice"):
        members.runs_of([first, place / "data" / ".." / "run-1"])
    changed = small_experiment(**{"evaluation.threshold": 0.4})
    other = drawn_run(tmp_path / "other", 3, data=place / "data", split=SPLIT, experiment=changed)
    with pytest.raises(UserError, match="other: it cannot answer together.*threshold is 0.4 here and 0.5 there"):
        members.read([RunFolder(first), other])
    shutil.copytree(first, tmp_path / "failed")
    shutil.rmtree(tmp_path / "failed" / "checkpoints")
    with pytest.raises(UserError, match="failed/checkpoints: there is no finished checkpoint yet"):
        members.read([RunFolder(first), RunFolder(tmp_path / "failed")])
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_no_member(place: Path, tmp_path: Path) -> None:
    run = drawn_run(tmp_path / "nan", 3, data=place / "data", split=SPLIT)
    (member,) = members.read([run])
    broken = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), member.weights)
    checkpoints = run.checkpoints()
    checkpoints.save(8, {"weights": jax.tree.map(jax.numpy.asarray, broken)}, {"best_steps": {}})
    checkpoints.close()
    with pytest.raises(UserError, match="nan: the weights of step 8 hold numbers that are not finite"):
        members.read([run])


def test_the_folder_of_a_crossval_stands_for_its_folds_as_they_were_pooled(place: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"fold-{number}" for number in (0, 1)]
    for number, path in enumerate(paths):
        shutil.copytree(place / f"run-{number + 1}", path)
    with pytest.raises(UserError, match="its folds were not put together yet"):
        members.runs_of([tmp_path])
    for number, path in enumerate(paths):
        for name in ("scores.csv", "summary.json"):
            files.write_text(path / "evaluation" / "test" / name, "{}")
        folds.mark_done(folds.Fold(number, path), RunFolder(path).experiment())
    files.write_json(tmp_path / "summary.json", {"folds": [str(path) for path in paths]})
    assert [run.path for run in members.runs_of([tmp_path])] == paths
    files.write_json(paths[1] / "checkpoints" / "step-00000009" / "manifest.json", {})
    with pytest.raises(UserError, match=f"fold 1 .{paths[1]}. is not as it was when the folds were put together"):
        members.runs_of([tmp_path])
    shutil.rmtree(paths[1])
    with pytest.raises(UserError, match="fold 1 is missing"):
        members.runs_of([tmp_path])


# --- what they are judged on -----------------------------------------------------------------------------------------


def test_only_studies_that_every_run_held_out_are_judged(place: Path, tmp_path: Path) -> None:
    data = place / "data"
    both = held_out.held_out_from_all(runs(place), split="test", folder=None)
    assert [case.study for case in both.cases] == NAMES[1:]
    trained_on_one = drawn_run(
        tmp_path / "a", 3, data=data, split={"train": [NAMES[1]], "validation": [NAMES[0]], "test": [NAMES[2]]}
    )
    shared = held_out.held_out_from_all([*runs(place), trained_on_one], split="test", folder=None)
    assert [case.study for case in shared.cases] == NAMES[2:] and "those of all 3 runs" in shared.words
    fold = drawn_run(tmp_path / "b", 3, data=data, split={"train": NAMES[1:], "validation": [], "test": [NAMES[0]]})
    with pytest.raises(UserError, match="no study is among the test studies of all 2 runs.*--data") as told:
        held_out.held_out_from_all([runs(place)[0], fold], split="test", folder=None)
    assert "\n" not in str(told.value)
    isles2022_root(tmp_path / "new", [lesion(SHAPE, {0: (9, 9)}, side=8)])
    external = held_out.held_out_from_all([runs(place)[0], fold], split="test", folder=str(tmp_path / "new"))
    assert external.name == "external-new" and len(external.cases) == 1
    elsewhere = drawn_run(tmp_path / "c", 3, data=tmp_path / "new", split={**SPLIT, "test": NAMES[:1]})
    with pytest.raises(UserError, match="c: it is judged on .*name a data set that none of them saw"):
        held_out.held_out_from_all([runs(place)[0], elsewhere], split="test", folder=None)


@pytest.mark.slow
def test_the_doors_take_several(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [str(run.path) for run in runs(place)]
    with pytest.raises(UserError, match="name one with -o"):
        evaluate.main(both)
    assert evaluate.main([*both, "-o", str(tmp_path / "out"), "--mirror"]) == 0
    told = capsys.readouterr().out
    assert "unet_isles22 (2 runs)" in told and "network passes a study" in told
    summary = json.loads((tmp_path / "out" / "evaluation" / "test-mirrored" / "summary.json").read_text())
    assert [one["path"] for one in summary["runs"]] == both and summary["mirrored"] is True
    assert predict.main([*both, str(place / "data"), "-o", str(tmp_path / "masks"), "--no-mirror"]) == 0
    assert "2 runs: 2 network passes a study" in capsys.readouterr().out
    facts = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert len(facts["runs"]) == 2 and facts["mirrored"] is False and len(facts["predictions"]) == 3
    trained = jaxstroke.load(*both)
    of_library = trained.predict(place / "data" / NAMES[0]).volume_ml
    assert of_library == pytest.approx(facts["predictions"][0]["volume_ml"])


# --- a batch of them -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_studies_stream_with_one_read_ahead_and_memory_stays_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five members, 3 studies and 15: never more than three in memory, and no sign of the twelve others in the peak.

    Which of the three are there at the worst moment is a matter of chance: four studies' worth.
    """
    shape = (8, 48, 48)
    cases = isles2022_root(tmp_path / "data", [np.zeros(shape, np.uint8)] * 15)
    made = known(monkeypatch, lambda images, weight: np.full(images.shape[:3], weight), 0.1, 0.2, 0.3, 0.4, 0.6)
    reads: list[str] = []
    held: list[int] = []
    there: list[weakref.ref[Study]] = []

    def read(preparation: Any, case: Any, *words: Any, **how: Any) -> Study:
        reads.append(case.study)
        study = read_study(case, *words, **how)
        there.append(weakref.ref(study))
        return study

    def write(study: Study, answer: Answer) -> list[dict]:
        held.append(reads.index(study.case.study))
        assert sum(one() is not None for one in there) <= 3
        return [{"study": study.case.study, "mean": float(answer.probabilities.max())}]

    monkeypatch.setattr(many, "read_with", read)
    peaks = []
    for count in (1, 3, 15):  # the first brings what is kept from then on
        reads.clear()
        held.clear()
        tracemalloc.start()
        system = System("five", "five", ("DWI", "ADC"), made.study, above_half)
        outcome = many.predict(cases[:count], system, write, lambda *_, **__: None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert [line["mean"] for line in outcome.done] == pytest.approx([0.32] * count)
        assert reads == [case.study for case in cases[:count]] and held == list(range(count))
    one_study = 2 * 4 * np.prod(shape)
    assert peaks[2] - peaks[1] < 4 * one_study
