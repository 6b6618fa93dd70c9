"""Matching one to one, conventions by name, probability maps, slices, surface Dice, strata: by hand and by oracles."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jaxstroke.errors import UserError
from jaxstroke.metrics import lesions, overlap, probability, scorecard, strata, surface
from jaxstroke.metrics.rules import RULES, find_rules
from jaxstroke.metrics.slices import detect_slices

# Of random masks (`oracle_pair`), by panoptica 2.1.7 (cc3d components, NaiveThresholdMatching by IoU) in an environment
# of its own: it asks for older NumPy and rich than this project.
PANOPTICA = json.loads((Path(__file__).parent / "panoptica_2_1_7.json").read_text())
SPACING = (5.0, 1.0, 1.0)


def row(*values):
    return np.array([[values]], bool)


def oracle_pair(seed):
    rng = np.random.default_rng(seed)
    reference = ndimage.gaussian_filter(rng.normal(size=(8, 24, 24)), 1.2) > 0.17
    noise = ndimage.gaussian_filter(rng.normal(size=reference.shape), 1.2)
    return ndimage.gaussian_filter(reference.astype(float), 0.6) + 1.2 * noise > 0.45, reference


@pytest.mark.parametrize("seed", sorted({line["seed"] for line in PANOPTICA}))
def test_matching_is_that_of_panoptica(seed):
    prediction, reference = oracle_pair(seed)
    for line in (line for line in PANOPTICA if line["seed"] == seed):
        assert [prediction.sum(), reference.sum()] == line["voxels"], "these are other masks than the oracle's"
        found = lesions.match_lesions(prediction, reference, iou=line["iou"])
        counts = found.counts
        assert (counts.found, counts.false_positive, counts.missed) == (line["tp"], line["fp"], line["fn"])
        assert (counts.predicted, counts.reference) == (line["predicted"], line["reference"])
        assert found.recognition_quality == pytest.approx(line["rq"])
        assert found.segmentation_quality == pytest.approx(line["sq"], nan_ok=True)
        assert found.panoptic_quality == pytest.approx(line["pq"] if line["tp"] else 0.0)
        assert overlap.dice(prediction, reference) == pytest.approx(line["dsc"])


def test_the_oracle_tells_the_thresholds_apart():
    by = {iou: [line["rq"] for line in PANOPTICA if line["iou"] == iou] for iou in (0.2, 0.25, 0.5)}
    assert by[0.2] != by[0.25] != by[0.5]


def test_matching_by_hand():
    # IoU of the pair 2/4; the second region stands alone
    prediction, reference = row(1, 1, 1, 0, 0, 0, 1), row(0, 1, 1, 1, 0, 0, 0)
    half = lesions.match_lesions(prediction, reference, iou=0.5)
    assert half.ious == (0.5,) and half.recognition_quality == pytest.approx(2 / 3)
    assert half.panoptic_quality == pytest.approx(1 / 3)
    more = lesions.match_lesions(prediction, reference, iou=0.51)
    assert (more.counts.found, more.counts.missed, more.counts.false_positive) == (0, 1, 2)
    assert math.isnan(more.segmentation_quality) and more.panoptic_quality == 0


def test_one_region_over_two_lesions_finds_one_of_them_at_most():
    prediction, reference = row(1, 1, 1, 1, 1), row(1, 1, 0, 0, 1)
    found = lesions.match_lesions(prediction, reference, iou=0.2)
    assert (found.counts.found, found.counts.missed, found.ious) == (1, 1, (0.4,))
    assert lesions.count_lesions(prediction, reference).f1 == 1.0  # ISLES'22: both


@pytest.mark.parametrize("name, f1", [("isles22", 1.0), ("isles24", 1.0), ("isles26", 0.0), ("isles24_2024", 0.0)])
def test_a_challenge_by_its_threshold(name, f1):
    prediction, reference = row(1, 1, 1, 1, 1, 0, 0), row(0, 0, 0, 0, 1, 0, 0)  # IoU 1/5
    assert scorecard.score(prediction, reference, SPACING, rules=find_rules(name))["lesion_f1"] == f1


@pytest.mark.parametrize("name", RULES)
def test_empty_masks_under_each_convention(name):
    empty, lesion = row(0, 0, 0), row(0, 1, 0)
    both = scorecard.score(empty, empty, SPACING, rules=RULES[name])
    challenge = name.startswith("isles")
    wanted = {"cross_domain": 1.0, "cross_domain_empty_0": 0.0}.get(name, 1.0 if challenge else math.nan)
    assert both["dice"] == pytest.approx(wanted, nan_ok=True)
    assert both["recall"] == pytest.approx(math.nan if challenge else wanted, nan_ok=True)
    assert both["lesion_f1"] == 1.0 and both["volume_difference_ml"] == both["lesion_count_difference"] == 0
    for prediction, reference in ((empty, lesion), (lesion, empty)):
        one = scorecard.score(prediction, reference, SPACING, rules=RULES[name])
        assert one["dice"] == one["lesion_f1"] == 0.0 and one["volume_difference_ml"] == pytest.approx(0.005)
        assert one["lesion_count_difference"] == 1


def test_an_unknown_convention_names_those_there_are():
    with pytest.raises(UserError, match="isles22"):
        find_rules("isles23")


def test_pr_area_without_lesion_is_the_convention_s():
    empty = np.zeros((1, 2, 2), bool)
    flat, rising = np.full((1, 2, 2), 0.3), np.array([[[0.1, 0.2], [0.3, 0.4]]])
    isles26 = RULES["isles26"]
    assert scorecard.score_probabilities(flat, empty, rules=isles26)[0]["pr_area"] == 1.0
    assert scorecard.score_probabilities(rising, empty, rules=isles26)[0]["pr_area"] == 0.0
    assert math.isnan(scorecard.score_probabilities(flat, empty)[0]["pr_area"])


# --- probability maps ------------------------------------------------------------------------------------------------


def curve_area(p, g):
    """The textbook way: a point for each distinct threshold, from the highest down, and one at (0, 1)."""
    points = [(0.0, 1.0)]
    thresholds = sorted(set(p.tolist()), reverse=True)
    marked = [(np.count_nonzero(g[p >= t]) / g.sum(), g[p >= t].mean()) for t in thresholds]
    # scikit-learn's curve is ordered by threshold; at recall 0 the added point comes first
    points += marked
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(points, points[1:], strict=False))


def pairs_won(p, g):
    wins = (p[g][:, None] > p[~g]) + 0.5 * (p[g][:, None] == p[~g])
    return wins.mean()


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_areas_are_those_of_the_definitions(voxels):
    p, g = np.array([value / 6 for value, _ in voxels]), np.array([mark for _, mark in voxels])
    if g.any():
        assert probability.pr_area(p, g) == pytest.approx(curve_area(p, g))
    else:
        assert math.isnan(probability.pr_area(p, g))
    if g.any() and not g.all():
        assert probability.auc(p, g) == pytest.approx(pairs_won(p, g))
    else:
        assert math.isnan(probability.auc(p, g))


def test_brier_and_calibration_by_hand():
    p, g = np.array([0.05, 0.15, 0.95, 0.95], np.float32), np.array([0, 1, 1, 0], bool)
    assert probability.brier(p, g) == pytest.approx((0.05**2 + 0.85**2 + 0.05**2 + 0.95**2) / 4)
    # bins of a tenth: .05 | .15 | .95 twice
    assert probability.ece(p, g, bins=10) == pytest.approx((0.05 + 0.85 + abs(1.9 - 1)) / 4)
    curve = probability.reliability(p, g, bins=10)
    assert curve.rows()[-1] == pytest.approx({"probability": 0.95, "lesion_share": 0.5, "voxels": 2})
    assert probability.pooled([curve, curve]).ece == pytest.approx(curve.ece)
    assert probability.pooled([]) is None
    assert probability.reliability(np.array([1.0]), [True]).voxels[-1] == 1


def test_only_the_voxels_within_count():
    p, g = np.array([[0.9, 0.2, 0.0]]), np.array([[1, 0, 0]])
    inside = probability.probability_scores(p, g, within=np.array([[1, 1, 0]]))
    assert inside.brier == pytest.approx((0.01 + 0.04) / 2)
    assert inside.reliability.voxels.sum() == 2


@pytest.mark.parametrize("values", [[-0.1, 0.5], [0.5, 1.5], [math.nan, 0.5]])
def test_what_is_no_probability_is_refused(values):
    with pytest.raises(UserError, match="sigmoid"):
        probability.auc(values, [0, 1])


# --- surfaces, slices, F1 --------------------------------------------------------------------------------------------


def surface_dice(prediction, reference, tolerance_mm):
    return surface.surface_scores(prediction, reference, (1, 1, 1), tolerance_mm=tolerance_mm).surface_dice


def test_surface_dice_by_hand():
    prediction, reference = row(1, 1, 1, 1, 0, 0), row(0, 0, 1, 1, 1, 1)
    # to the reference 2, 1, 0, 0 mm, back 0, 0, 1, 2 mm
    for tolerance, share in ((0, 4 / 8), (1, 6 / 8), (2, 1.0)):
        assert surface_dice(prediction, reference, tolerance) == pytest.approx(share)
    empty = row(0, 0)
    assert surface_dice(empty, empty, 1) == 1.0
    assert surface_dice(empty, row(1, 0), 1) == 0.0
    three = surface.surface_scores(prediction, reference, (1, 1, 1), tolerance_mm=1)
    assert three.hd95_mm == surface.hd95_mm(prediction, reference, (1, 1, 1))
    assert three.average_surface_distance_mm == pytest.approx(6 / 8)


def test_slices_by_hand():
    prediction = np.array([[[1]], [[1]], [[0]], [[0]], [[0]]], bool)
    reference = np.array([[[1]], [[0]], [[1]], [[1]], [[0]]], bool)
    found = detect_slices(prediction, reference)
    assert (found.sensitivity, found.specificity, found.precision) == (pytest.approx(1 / 3), 0.5, 0.5)
    nothing = detect_slices(np.zeros((2, 1, 1)), np.zeros((2, 1, 1)))
    assert math.isnan(nothing.sensitivity) and nothing.specificity == 1.0


@pytest.mark.parametrize(
    "precision, recall, printed", [(0.5650, 0.6440, 0.6019), (0.6782, 0.5654, 0.6167)]
)  # Perf-UNet and Pool-UNet in MDANet's Table 1, which have no spread over folds
def test_f1_is_what_mdanet_prints(precision, recall, printed):
    assert overlap.harmonic_f1(precision, recall) == pytest.approx(printed, abs=5e-5)


def test_no_two_f1_bear_one_name_or_value():
    """A study whose voxels and lesions disagree, and a second one: three figures, three headings."""
    rows = [
        scorecard.score(row(1, 1, 1, 1, 0, 0), row(1, 0, 0, 0, 0, 1), SPACING),
        scorecard.score(row(1, 0, 0, 0, 0, 0), row(1, 1, 1, 0, 0, 0), SPACING),
    ]
    summaries = scorecard.summarise(rows)
    three = [summaries["f1"].mean, scorecard.f1_of_means(summaries), summaries["lesion_f1"].mean]
    assert len({round(value, 6) for value in three}) == 3
    assert three[1] == pytest.approx(overlap.harmonic_f1((1 / 4 + 1) / 2, (1 / 2 + 1 / 3) / 2))
    headings = [column.heading for column in (*scorecard.COLUMNS.values(), scorecard.F1_OF_MEANS)]
    assert len(set(headings)) == len(headings)
    assert not {"F1", "F1 score"} & set(headings)


# --- strata ----------------------------------------------------------------------------------------------------------


def test_slabs_of_a_patient_are_one_study():
    first = np.zeros((2, 3, 8), bool), np.zeros((2, 3, 8), bool)
    second = np.zeros((2, 3, 8), bool), np.zeros((2, 3, 8), bool)
    first[0][0, 0, :3] = first[1][0, 0, 1:6] = second[0][1, 2, 5] = True
    rows = [
        {"study": "a", "patient": "p", **scorecard.score(*first, SPACING)},
        {"study": "b", "patient": "p", **scorecard.score(*second, SPACING)},
    ]
    whole = scorecard.score(*(np.concatenate(pair) for pair in zip(first, second, strict=True)), SPACING)
    (pooled,) = strata.by_patient(rows)
    assert strata.shared_patients(rows) and not strata.shared_patients(rows[:1])
    for name, value in pooled.items():
        if name not in ("study", "patient"):
            assert value == pytest.approx(whole[name], nan_ok=True), name


def test_strata_by_volume_number_and_quality():
    rows = [
        {"study": str(n), "reference_volume_ml": volume, "reference_lesions": number, "quality": quality}
        for n, (volume, number, quality) in enumerate([(3.0, 1, "good"), (60.0, 5, "motion"), (20.0, 2, "good")])
    ]
    sizes = {way: {word: len(members) for word, members in found.items()} for way, found in strata.strata(rows).items()}
    assert sizes == {
        "volume": {"< 10 mL": 1, "10-50 mL": 1, "> 50 mL": 1},
        "lesions": {"1 lesion": 1, "2-3 lesions": 1, "> 3 lesions": 1},
        "quality": {"good": 2, "motion": 1},
    }
    assert "quality" not in strata.strata([{**one, "quality": ""} for one in rows])
