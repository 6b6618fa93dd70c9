"""The rule from probability to mask: what a hand chooses, where it is kept, and that no test study is opened for it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import drawn_run
from small_studies import isles2022_root, lesion

import jaxstroke
from jaxstroke import calibrate, files
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Study, read_study
from jaxstroke.errors import UserError
from jaxstroke.inference import calibrating, held_out, members
from jaxstroke.inference.ensemble import Ensemble
from jaxstroke.inference.postprocess import mask_of, without_small
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.metrics import scorecard
from jaxstroke.metrics.probability import probability_scores
from jaxstroke.metrics.temperature import Logits, best_temperature, scaled
from jaxstroke.runs import calibration
from jaxstroke.runs.calibration import Calibration, Rule
from jaxstroke.runs.folder import RunFolder

SHAPE = (3, 32, 32)
VOXEL_ML = 0.008  # 2 mm
NAMES = [f"sub-strokecase{number:04}" for number in (1, 2, 3, 4)]
SPLIT = {"train": [NAMES[3]], "validation": NAMES[:2], "test": [NAMES[2]]}


# --- temperature -----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20), st.floats(0.5, 5))
def test_scaling_keeps_the_order_and_one_half(values: list[float], temperature: float) -> None:
    p = np.array(sorted(values))
    found = scaled(p, temperature)
    assert (np.diff(found) >= 0).all() and 0 <= found.min() and found.max() <= 1
    assert scaled(np.float64(0.5), temperature) == 0.5
    np.testing.assert_array_equal(scaled(p, 1.0), p)
    inner = p[(p > 1e-3) & (p < 1 - 1e-3)]
    np.testing.assert_allclose(scaled(scaled(inner, temperature), 1 / temperature), inner, rtol=1e-4)


def test_the_temperature_is_found_again() -> None:
    """Voxels that are lesion as often as their probability says need T = 1; said twice too surely they need T = 2."""
    honest = np.array([0.1, 0.3, 0.8, 0.95])
    p, g = np.repeat(honest, 1000), np.concatenate([np.arange(1000) < 1000 * one for one in honest])
    assert best_temperature(Logits.of(p, g)) == pytest.approx(1, abs=0.02)
    too_sure = scaled(p, 0.5)
    found = Logits.of(too_sure, g)
    assert best_temperature(found) == pytest.approx(2, abs=0.04)
    assert found.at(2.0).reliability().ece < 0.01 < found.reliability().ece
    assert best_temperature(Logits.of(p, np.zeros_like(g))) == 1.0, "nothing to learn from"


def test_figures_from_bins_are_those_of_the_voxels() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=5000).astype(np.float32)
    g = rng.uniform(size=5000) < p**2
    found, exact = Logits.of(p[:3000], g[:3000]) + Logits.of(p[3000:], g[3000:]), probability_scores(p, g)
    assert found.brier() == pytest.approx(exact.brier, abs=1e-4)
    assert found.reliability().ece == pytest.approx(exact.ece, abs=2e-3)
    clipped = np.clip(p.astype(float), 1e-7, 1 - 1e-7)
    assert found.loss(1.0) == pytest.approx(-np.mean(np.where(g, np.log(clipped), np.log1p(-clipped))), abs=1e-3)


# --- the rule --------------------------------------------------------------------------------------------------------


def test_small_lesions_go_by_their_volume() -> None:
    mask = lesion(SHAPE, {0: (2, 2)}, side=3) | lesion(SHAPE, {2: (20, 20)}, side=5)
    spacing = (2.0, 2.0, 2.0)
    assert without_small(mask, 9 * VOXEL_ML, spacing).sum() == 9 + 25
    assert without_small(mask, 9.5 * VOXEL_ML, spacing).sum() == 25
    assert without_small(mask, 1.0, spacing).sum() == 0
    assert mask_of(0.6 * mask, Rule(0.5, 0.0, largest_component=True), spacing).sum() == 25
    assert mask_of(0.6 * mask, Rule(0.6), spacing).sum() == 0


def answers(study: Study) -> Answer:
    """The lesion at .4 (so .5 finds nothing), a false one of 9 voxels at .45, and 0.02 elsewhere."""
    false = lesion(SHAPE, {0: (3, 14)}, side=3)
    return Answer(np.where(study.masks["lesion"] > 0, 0.4, np.where(false > 0, 0.45, 0.02))[..., None], {})


def system_of(answer: object) -> System:
    return System("known", "known", ("DWI", "ADC"), answer, lambda p, spacing_mm: mask_of(p, Rule(), spacing_mm))  # type: ignore[arg-type]


def found_by(tmp_path: Path, by: calibrating.Score, masks: Sequence[np.ndarray]) -> calibrating.Found:
    cases = isles2022_root(tmp_path, list(masks))
    return calibrating.calibrate(
        system_of(answers), cases, ["lesion"], before=Rule(), by=by, advance=lambda *_, **__: None
    )


@pytest.mark.parametrize("by", ["dice", "lesion_f1"])
def test_the_rule_is_the_one_that_a_hand_finds(tmp_path: Path, by: calibrating.Score) -> None:
    """Lesions of 64 voxels, .512 mL, at .4: found below .4, and the false one of .072 mL goes by .1 mL."""
    found = found_by(tmp_path, by, [lesion(SHAPE, {1: (12, 12)}, side=8), lesion(SHAPE, {1: (18, 9)}, side=8)])
    assert found.before == calibrating.Means(0.0, 0.0)
    assert found.after == calibrating.Means(1.0, 1.0)
    # Of the rules that are right the nearest: .35 is nearest to .5 below .4, the smallest lesion .1 nearest to none.
    assert found.rule.smallest_lesion_ml == 0.1 and found.rule.largest_component is False
    assert found.rule.threshold == pytest.approx(float(scaled(np.float64(0.35), found.temperature)))


def test_what_is_said_of_the_rule_is_what_its_masks_score(tmp_path: Path) -> None:
    """Against the scores of the masks themselves, of random probabilities and every rule of a few."""
    rng = np.random.default_rng(1)
    reference = rng.uniform(size=SHAPE) < 0.05
    p = np.clip(0.5 * reference + rng.uniform(0, 0.6, SHAPE), 0, 1)
    spacing = (3.0, 2.0, 2.0)
    rules = [Rule(t, s, one) for t in (0.3, 0.55) for s in (0.0, 0.05, 0.5) for one in (False, True)]
    scores = calibrating._scores(p, reference, spacing, rules)
    for rule, (dice, f1, volume_ml) in zip(rules, scores, strict=True):
        expected = scorecard.score(mask_of(p, rule, spacing), reference, spacing)
        assert dice == pytest.approx(expected["dice"]) and f1 == pytest.approx(expected["lesion_f1"]), rule
        assert volume_ml == pytest.approx(expected["volume_ml"])


def test_f1_is_not_bought_with_dice() -> None:
    rules = [Rule(0.5), Rule(0.3), Rule(0.4)]
    means = [calibrating.Means(0.6, 0.5), calibrating.Means(0.59, 0.9), calibrating.Means(0.6, 0.7)]
    assert calibrating._best(rules, means, Rule(0.5), "lesion_f1") == 2
    assert calibrating._best(rules, means, Rule(0.5), "dice") == 0, "of equals the one that is there"


# --- where it is kept ------------------------------------------------------------------------------------------------

KEPT = Calibration(7, False, 2.0, Rule(0.3, 0.1))


def test_it_comes_back_and_what_is_damaged_newer_or_of_other_weights_is_said(tmp_path: Path) -> None:
    assert calibration.read(tmp_path) is None
    path = calibration.write(tmp_path, KEPT, {"by": "dice"})
    assert calibration.read(tmp_path) == KEPT == calibration.read_for(tmp_path, 7)
    with pytest.raises(UserError, match="with the weights of step 7, and the best are now those of step 9.*again"):
        calibration.read_for(tmp_path, 9)
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "temperature": 3.0}))
    with pytest.raises(UserError, match="checksum does not fit"):
        calibration.read(tmp_path)
    del tree["sha256"]
    for change, told in (
        ({"format": 2}, "in format 2, and this program reads format 1"),
        ({"temperature": "hot"}, "it is damaged .*temperature"),
        ({"rule": {"threshold": 2}}, "it is damaged"),
        ({"rule": None}, "it is damaged"),
    ):
        files.write_sealed(path, {**tree, **change})
        with pytest.raises(UserError, match=told) as error:
            calibration.read(tmp_path)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate")
    isles2022_root(folder / "data", [lesion(SHAPE, {1: (12, 12)}, side=8)] * 4)
    drawn_run(folder / "run", 1, data=folder / "data", split=SPLIT)
    return folder


def test_members_have_rules_of_one_kind_and_the_mean_of_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "best_weights", lambda *_, **__: ({}, 7))
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        shutil.copytree(place / "run", path)
    calibration.write(one, KEPT, {})
    both = [RunFolder(one), RunFolder(other)]
    with pytest.raises(UserError, match=f"{other}: it was not calibrated, and {one} was.*jaxstroke.calibrate {other}"):
        members.read(both)
    calibration.write(other, Calibration(7, False, 1.0, Rule(0.5, 0.3, True)), {})
    together = members.read(both)
    assert members.rule_of(together) == Rule(0.4, 0.2, False)
    assert all(one.calibration is None for one in members.read(both, choose_by="last"))
    assert members.rule_of(members.read(both, calibrated=False)) == Rule(0.5)


def test_the_temperature_of_a_member_is_applied_before_the_mean(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """.8 at T = 2 is 2/3."""
    (member,) = members.read([RunFolder(place / "run")])

    class Sure:
        def replace_weights(self, weights: object) -> None: ...

        def prepared(self, images: np.ndarray) -> Answer:
            return Answer(np.full((*images.shape[:3], 1), 0.8, np.float32), {})

    monkeypatch.setattr(Ensemble, "_compile", lambda *_: Sure())
    object.__setattr__(member, "calibration", KEPT)
    study = read_study(find_layout("isles2022").find(place / "data")[0], images=("DWI", "ADC"))
    answer = Ensemble([member], mirrored=False).study(study).probabilities
    np.testing.assert_allclose(answer[:, 14:18, 14:18], 2 / 3, rtol=1e-5)


@pytest.mark.slow
def test_the_door_never_opens_a_test_study_and_all_that_follows_uses_the_rule(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(place / "data", data)
    drawn_run(run, 1, data=data, split=SPLIT)
    for path in data.rglob(f"*{NAMES[2]}*.nii.gz"):
        path.write_bytes(b"not to be opened")
    assert calibrate.main([str(run), "--by", "dice"]) == 0
    told = capsys.readouterr().out
    assert "no 90% interval of the volume of lesion: that takes 9 validation studies" in told
    assert "before" in told and "temperature" in told and f"evaluate {run}" in told
    tree = json.loads((run / calibration.FILE).read_text())
    assert tree["chosen"]["studies"] == 2 and tree["chosen"]["after"]["dice"] >= tree["chosen"]["before"]["dice"]
    assert tree["chosen"]["after"]["reliability"] and math.isfinite(tree["chosen"]["after"]["brier"])
    kept = calibration.read(run)
    assert kept is not None and kept.seen["slice spacing (mm)"] == (2.0, 2.0) and len(kept.residuals["lesion"]) == 2
    assert kept.weights_of_step == 7 and kept.mirrored is False
    trained = jaxstroke.load(run)
    assert trained.rule.endswith("(calibrated)") and f"{kept.rule}" in trained.rule
    found = trained.predict(data / NAMES[0])
    np.testing.assert_array_equal(found.mask, mask_of(found.probability, kept.rule, found.study.spacing_mm))
    reference = read_study(find_layout("isles2022").find(data)[0], ("DWI",), ("lesion",)).masks["lesion"]
    dice = scorecard.score(found.mask, reference, found.study.spacing_mm)["dice"]
    assert tree["chosen"]["after"]["dice"] == pytest.approx(
        np.mean([dice, scorecard.score(trained.predict(data / NAMES[1]).mask, reference, (2, 2, 2))["dice"]])
    )
    isles2022_root(tmp_path / "other", [lesion(SHAPE, {1: (12, 12)}, side=8)])
    with pytest.raises(UserError, match="other: it is not the data set of .*run, whose validation studies are needed"):
        calibrate.main([str(run), "--data", str(tmp_path / "other")])


@pytest.mark.slow
def test_the_rule_of_several_runs_is_chosen_for_their_mean_on_studies_that_none_trained_on(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first study alone validates both; a study that tests either is never opened."""
    data, runs = tmp_path / "data", [tmp_path / "one", tmp_path / "other"]
    shutil.copytree(place / "data", data)
    other = {"train": [NAMES[1]], "validation": [NAMES[0]], "test": [NAMES[2], NAMES[3]]}
    drawn_run(runs[0], 1, data=data, split={**SPLIT, "train": [], "test": [NAMES[2], NAMES[3]]})
    drawn_run(runs[1], 2, data=data, split=other)
    for name in NAMES[2:]:
        for path in data.rglob(f"*{name}*.nii.gz"):
            path.write_bytes(b"not to be opened")
    words = [str(run) for run in runs]
    assert calibrate.main(words) == 0
    assert "1 validation studies; the mean of 2 runs, by dice" in capsys.readouterr().out
    each = [calibration.read(run) for run in runs]
    both = members.read([RunFolder(run) for run in runs])
    kept = members.joint(both)
    assert kept is not None and kept == members.joint(both[::-1]), "whichever run is named first"
    trained = jaxstroke.load(*runs)
    assert trained.rule == f"{kept.rule}, at temperature {kept.temperature:.3g} (calibrated for the mean of the 2 runs)"
    found = trained.predict(data / NAMES[0])
    np.testing.assert_array_equal(found.mask, mask_of(found.probability, kept.rule, found.study.spacing_mm))
    alone = [jaxstroke.load(run).predict(data / NAMES[0]).probability for run in runs]
    np.testing.assert_allclose(found.probability, scaled(np.mean(alone, axis=0), kept.temperature), atol=1e-6)
    reference = read_study(find_layout("isles2022").find(data)[0], ("DWI",), ("lesion",)).masks["lesion"]
    tree = files.read_sealed(runs[0] / members.joint_file(both))
    best = tree["chosen"]["after"]["dice"]
    assert scorecard.score(found.mask, reference, (2, 2, 2))["dice"] == pytest.approx(best)
    mean_of_rules = mask_of(np.mean(alone, axis=0), members.rule_of(both), (2, 2, 2))
    assert scorecard.score(mean_of_rules, reference, (2, 2, 2))["dice"] == pytest.approx(
        tree["chosen"]["before"]["dice"]
    )
    assert all(one is not None and len(one.residuals["lesion"]) in (1, 2) for one in each)
    assert len(kept.residuals["lesion"]) == 1 and "disagreement" in kept.seen

    calibration.write(runs[1], Calibration(7, False, 1.5, Rule(0.4)), {})
    assert "(the mean of what was calibrated for each of the 2 runs)" in jaxstroke.load(*runs).rule, "it was of another"


def test_where_no_study_validates_all_runs_the_mean_of_their_rules_holds(tmp_path: Path) -> None:
    """As in a cross-validation; and studies of one name in two data sets are not one study."""
    data = tmp_path / "data"
    runs = [
        drawn_run(tmp_path / str(number), number, data=folder, split={**SPLIT, "validation": validation})
        for number, (folder, validation) in enumerate(
            [(data, NAMES[:2]), (data, NAMES[1:2]), (data, NAMES[:1]), (tmp_path / "another", NAMES[:2])]
        )
    ]
    assert held_out.shared(runs[:2], "validation") == {NAMES[1]}
    assert held_out.shared(runs[:3], "validation") == held_out.shared([runs[0], runs[3]], "validation") == set()
