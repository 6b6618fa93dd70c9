"""How sure an answer is: intervals, lesions, spread, and studies unlike those trained on, against what a hand finds."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import above_half, small_experiment
from small_studies import isles2022_root, lesion

from jaxstroke.data.layouts import find_layout
from jaxstroke.data.prepare import head_of, prepare
from jaxstroke.data.study import Study, read_study
from jaxstroke.experiment import Augment
from jaxstroke.inference import doubts, evaluation, unlike, written
from jaxstroke.inference.doubts import Doubts, Interval
from jaxstroke.inference.ensemble import Ensemble
from jaxstroke.inference.members import Member
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.metrics import conformal
from jaxstroke.runs.calibration import Calibration, Rule
from jaxstroke.runs.folder import RunFolder

SHAPE = (3, 32, 32)
VOXEL_ML = 0.008  # 2 mm


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    (case,) = isles2022_root(tmp_path_factory.mktemp("doubts"), [lesion(SHAPE, {1: (12, 12)}, side=8)])
    return read_study(case, ("DWI", "ADC"), ("lesion",))


# --- the interval ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(9, 60), st.sampled_from([0.5, 0.8, 0.9]))
def test_of_exchangeable_studies_the_interval_holds_its_share_or_more(seed: int, n: int, level: float) -> None:
    """Each of n + 1 studies drawn alike is left out in turn: the share `level` of them, rounded up, is held each time
    and not only on average, since which of them is new is all that exchangeability leaves to chance."""
    rng = np.random.default_rng(seed)
    reference = rng.lognormal(2, 1.5, n + 1)
    predicted = reference * rng.lognormal(0.1, rng.uniform(0.1, 1), n + 1)
    residuals = [conformal.residual(v, g) for v, g in zip(predicted, reference, strict=True)]
    held = 0
    for out in range(n + 1):
        q = conformal.reach(residuals[:out] + residuals[out + 1 :], level)
        low, high = conformal.interval_ml(predicted[out], q)
        held += low - 1e-9 <= reference[out] <= high + 1e-9
    assert held >= math.ceil((n + 1) * level - 1e-9)


def test_the_interval_by_hand() -> None:
    """Of ten residuals the ceil(11 x .9) = 10th, a factor of 2: from (3 + 1) / 2 - 1 to (3 + 1) 2 - 1."""
    residuals = (*([0.1] * 9), math.log(2))
    known = Calibration(7, False, 1.0, Rule(), 0.9, {"lesion": residuals})
    interval = Doubts((known,)).interval("lesion", 3.0)
    assert interval is not None and interval.level == 0.9
    assert (interval.low_ml, interval.high_ml) == pytest.approx((1.0, 7.0))
    assert conformal.interval_ml(0.0, math.log(2)) == pytest.approx((0.0, 1.0))
    wider = dataclasses.replace(known, residuals={"lesion": (math.log(4),) * 9})
    both = Doubts((known, wider)).interval("lesion", 3.0)
    assert both is not None and (both.low_ml, both.high_ml) == pytest.approx((0.0, 15.0))
    few = dataclasses.replace(known, residuals={"lesion": residuals[:8]})
    assert Doubts((few,)).interval("lesion", 3.0) is None and Doubts().interval("lesion", 3.0) is None
    rows = [{"target": "lesion", "volume_ml": 3.0, "reference_volume_ml": g} for g in (0.9, 1.0, 7.0, 7.1)]
    found = doubts.coverage(rows, Doubts((known,)))["lesion"]
    assert (found["held"], found["studies"], found["level"]) == (2, 4, 0.9)
    assert found["mean_width_ml"] == pytest.approx(6.0)
    assert doubts.coverage(rows, Doubts()) == {}


# --- voxels and lesions ----------------------------------------------------------------------------------------------


def test_each_lesion_by_hand() -> None:
    """4 x 4 pixels at .8 of which half of the passes mark a half, and 2 x 2 pixels at .6 that all mark."""
    large, small = lesion(SHAPE, {0: (4, 4)}, side=4), lesion(SHAPE, {2: (20, 20)}, side=2)
    votes = 1.0 * small + 0.5 * lesion(SHAPE, {0: (4, 4)}, side=4)
    votes[0, 4:6, 4:8] = 1.0
    rows = doubts.each_lesion(large + small, 0.8 * large + 0.6 * small, votes, (2.0, 2.0, 2.0))
    assert [row["lesion"] for row in rows] == [1, 2]
    for row, volume, probability, agreement in zip(rows, (16, 4), (0.8, 0.6), (0.75, 1.0), strict=True):
        assert row["volume_ml"] == pytest.approx(volume * VOXEL_ML)
        assert row["probability"] == pytest.approx(probability) and row["agreement"] == pytest.approx(agreement)
    (alone,) = doubts.each_lesion(small, 0.6 * small, None, (2.0, 2.0, 2.0))
    assert "agreement" not in alone
    assert doubts.each_lesion(np.zeros(SHAPE), votes, votes, (1, 1, 1)) == []


def test_spread_and_votes_of_members_and_copies(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that say .2 and .8: spread .3, and half of the votes; a third member's two copies count half each."""

    class Says:
        def __init__(self, value: Any) -> None:
            self._value = value

        def replace_weights(self, weights: Any) -> None:
            self._value = weights

        def prepared(self, images: np.ndarray) -> Answer:
            return Answer(np.full((*images.shape[:3], 1), self._value, np.float32), {})

    monkeypatch.setattr(Ensemble, "_compile", lambda self, member, weights: Says(weights))
    experiment = dataclasses.replace(small_experiment(), augment=Augment(flip_left_right=True))
    made = [Member(RunFolder(Path("x")), experiment, np.float32(one), 0) for one in (0.2, 0.8)]
    inner = (slice(None), slice(13, 19), slice(13, 19), 0)
    for mirrored in (False, True):
        answer = Ensemble(made, mirrored=mirrored).study(study)
        assert answer.spread is not None and answer.votes is not None
        np.testing.assert_allclose(answer.spread[inner], 0.3, atol=1e-6)
        np.testing.assert_allclose(answer.votes[inner], 0.5, atol=1e-6)
        assert answer.figures[unlike.DISAGREEMENT] == pytest.approx(0.5, abs=1e-6)
    alone = Ensemble(made[:1], mirrored=False).study(study)
    assert alone.spread is None and alone.votes is None and not alone.figures


def test_what_is_written(study: Study, tmp_path: Path) -> None:
    """Entropy 1 bit at .5; the lesion in the table and on record with its interval."""
    mask = study.masks["lesion"].astype(np.float32)
    answer = Answer((0.5 + 0.4 * mask)[..., None], {}, (0.1 * mask)[..., None], mask[..., None], {"head (mL)": 9.0})
    seen = {"head (mL)": (100.0, 200.0)}
    known = Doubts((Calibration(7, False, 1.0, Rule(), 0.9, {"lesion": (0.0,) * 9}, seen),))
    system = System("s", "s", ("DWI",), lambda _: answer, above_half, doubts=known)
    (told,) = written.write(tmp_path, study, answer, system, ("lesion",), uncertainty=True)
    assert told["interval"] == {"low_ml": pytest.approx(0.512), "high_ml": pytest.approx(0.512), "level": 0.9}
    assert told["lesions"] == 1 and told["each_lesion"][0]["probability"] == pytest.approx(0.9)
    assert told["unlike"] == ["head (mL) is 9; 100 to 200 in training"]
    entropy, spread = (np.asarray(nib.load(told[word]).dataobj) for word in ("entropy", "spread"))
    assert entropy.max() == pytest.approx(1.0) and entropy.min() == pytest.approx(0.468996, abs=1e-5)
    assert spread.max() == pytest.approx(0.1) and np.count_nonzero(spread) == 64
    header, row = written.lesions_csv([told]).splitlines()
    assert header == "study,target,lesion,volume_ml,probability,agreement"
    assert row.startswith("sub-strokecase0001,lesion,1,0.512") and row.endswith(",1.0")


def test_an_interval_in_words() -> None:
    assert str(Interval(1.0, 7.04, 0.9)) == "1.0 to 7.0 mL (90%)"


# --- unlike ----------------------------------------------------------------------------------------------------------


def test_figures_of_a_study(study: Study) -> None:
    data = small_experiment(**{"data.spacing_mm": 2.0}).data
    prepared = prepare(study, data)
    found = unlike.figures_of(study, prepared, data)
    assert found["slice spacing (mm)"] == found["row spacing (mm)"] == pytest.approx(2.0)
    assert found["head (mL)"] == pytest.approx((prepared.images != 0).any(axis=-1).sum() * VOXEL_ML)
    assert found["ADC missing"] == 0.0
    lacking = dataclasses.replace(study, images={"DWI": study.images["DWI"]}, missing=("ADC",))
    of_lacking = unlike.figures_of(lacking, prepare(lacking, data), data)
    assert "ADC missing is 1; 0 to 0 in training" in unlike.reasons(of_lacking, unlike.ranges([found]))
    inside = prepared.images[..., 0][(prepared.images != 0).any(axis=-1)]
    assert found["DWI 95 %"] == pytest.approx(np.percentile(inside, 95))
    rng = np.random.default_rng(0)
    noisy = {word: image + (image != 0) * rng.normal(0, 40, image.shape) for word, image in study.images.items()}
    changed = dataclasses.replace(study, images={"DWI": noisy["DWI"], "ADC": study.images["ADC"]})
    assert unlike.figures_of(changed, prepare(changed, data), data)["ADC roughness"] == pytest.approx(
        found["ADC roughness"], rel=0.05
    )


def test_wrong_units_show_in_an_images_size(study: Study) -> None:
    """Three times is within, as another scanner's gain may be; normalisation hides a factor from all other figures."""
    data = small_experiment(**{"data.spacing_mm": 2.0}).data

    def figures(factor: float) -> unlike.Figures:
        changed = dataclasses.replace(study, images={**study.images, "ADC": study.images["ADC"] * np.float32(factor)})
        return unlike.figures_of(changed, prepare(changed, data), data)

    as_it_is = figures(1)
    head = head_of(dict(study.images), find_layout("isles2022"))
    assert as_it_is["ADC size"] == pytest.approx(np.median(study.images["ADC"][head]))
    seen = unlike.ranges([as_it_is])
    for factor in (0.34, 2.9):
        assert unlike.reasons(figures(factor), seen) == []
    for factor in (1e-3, 0.1, 3.1, 1e3):
        (why,) = unlike.reasons(figures(factor), seen)
        assert why.startswith("ADC size is ") and why.endswith(" in training (wrong units?)"), factor
    by_an_earlier_version = {name: own for name, own in seen.items() if not name.endswith("size")}
    assert unlike.reasons(figures(1e3), by_an_earlier_version) == []


def test_judging_says_which_studies_are_unlike_and_why(study: Study) -> None:
    known = Doubts((Calibration(7, False, 1.0, Rule(), 0.9, {}, {"head (mL)": (100.0, 200.0)}),))

    def row(head_ml: float, doubt: Doubts) -> dict[str, Any]:
        answer = Answer(np.zeros((*SHAPE, 1), np.float32), {}, figures={"head (mL)": head_ml})
        system = System("s", "s", ("DWI", "ADC"), lambda _: answer, above_half, doubts=doubt)
        (found,) = evaluation.evaluate(
            [system], [study.case], images=("DWI", "ADC"), targets=("lesion",), advance=lambda *_, **__: None
        )
        return found

    why = "head (mL) is 9; 100 to 200 in training"
    rows = [row(9, known), {**row(150, known), "study": "other"}]
    assert rows[0]["unlike"] == why and rows[1]["unlike"] == ""
    assert doubts.flagged(rows) == {"studies": 2, "reasons": {study.case.study: why}}
    assert doubts.flagged([row(9, Doubts())]) is None, "nothing is known, which is not the same as none"


def test_a_figure_outside_the_widened_range_is_a_reason() -> None:
    """4 to 6 widened by half its length: 3 to 7; a range without length by a twentieth: 1.9 to 2.1."""
    seen = unlike.ranges([{"a": 4.0, "b": 2.0}, {"a": 6.0, "b": 2.0}])
    assert seen == {"a": (4.0, 6.0), "b": (2.0, 2.0)}
    assert unlike.reasons({"a": 3.0, "b": 2.1, "c": 9.0}, seen) == []
    assert unlike.reasons({"a": 2.99, "b": 2.11}, seen) == [
        "a is 2.99; 4 to 6 in training",
        "b is 2.11; 2 to 2 in training",
    ]
    assert unlike.disagreement(np.zeros(4)) == 0.0
