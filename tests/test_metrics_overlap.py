"""Dice, precision, recall and volumes: hand-computed values, empty masks, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxstroke.errors import UserError
from jaxstroke.metrics import overlap

MASKS = hnp.arrays(bool, (2, 2, 3, 4), elements=st.booleans())


def test_hand_computed():
    prediction = np.array([[[1, 1, 1, 0, 0]]], bool)
    reference = np.array([[[0, 1, 1, 1, 1]]], np.uint8)
    assert overlap.dice(prediction, reference) == pytest.approx(4 / 7)
    assert overlap.precision(prediction, reference) == pytest.approx(2 / 3)
    assert overlap.recall(prediction, reference) == pytest.approx(2 / 4)
    assert overlap.volume_ml(reference, (5.0, 2.0, 0.5)) == pytest.approx(0.02)
    assert overlap.volume_difference_ml(prediction, reference, (5.0, 2.0, 0.5)) == pytest.approx(0.005)


@pytest.mark.parametrize(
    "predicted, expected, dice, precision, recall",
    [(0, 0, 1.0, math.nan, math.nan), (0, 1, 0.0, math.nan, 0.0), (1, 0, 0.0, 0.0, math.nan), (1, 1, 1.0, 1.0, 1.0)],
)
def test_empty_masks(predicted, expected, dice, precision, recall):
    prediction, reference = np.full((2, 3, 4), predicted), np.full((2, 3, 4), expected)
    scores = [measure(prediction, reference) for measure in (overlap.dice, overlap.precision, overlap.recall)]
    np.testing.assert_equal(scores, [dice, precision, recall])


@given(MASKS)
def test_dice_is_symmetric_and_the_harmonic_mean_of_precision_and_recall(pair):
    prediction, reference = pair
    dice = overlap.dice(prediction, reference)
    assert dice == overlap.dice(reference, prediction)
    assert 0 <= dice <= 1
    precision, recall = overlap.precision(prediction, reference), overlap.recall(prediction, reference)
    if prediction.any() and reference.any() and precision + recall > 0:
        assert dice == pytest.approx(2 * precision * recall / (precision + recall))


def test_slice_dice_under_both_rules_for_empty_slices():
    reference = np.zeros((4, 2, 2), bool)
    prediction = np.zeros((4, 2, 2), bool)
    reference[1, 0] = prediction[1, 0, 0] = prediction[2, 0, 0] = True  # one voxel of two; a false positive; two empty
    np.testing.assert_allclose(overlap.slice_dice(prediction, reference, empty=1.0), [1, 2 / 3, 0, 1])
    np.testing.assert_allclose(overlap.slice_dice(prediction, reference, empty=0.0), [0, 2 / 3, 0, 0])


@settings(max_examples=50)
@given(MASKS, st.sampled_from([0.0, 1.0]))
def test_slice_dice_is_dice_of_each_slice(pair, empty):
    expected = [overlap.dice(p, r) if p.any() or r.any() else empty for p, r in zip(*pair, strict=True)]
    np.testing.assert_allclose(overlap.slice_dice(*pair, empty=empty), expected)


@pytest.mark.parametrize("value", [0.5, 2, -1, 255, np.nan])
def test_what_is_not_a_mask_is_refused_with_its_value(value):
    with pytest.raises(UserError, match=f"also {value}".replace(".", r"\.")):
        overlap.dice(np.array([0, 1, value]), np.array([0, 1, 1]))


def test_different_grids_are_refused_with_both_shapes():
    with pytest.raises(UserError, match=r"\(1, 4\).*\(4, 1\)"):
        overlap.dice(np.zeros((1, 4)), np.zeros((4, 1)))


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, math.nan)])
def test_impossible_spacing_is_refused(spacing):
    with pytest.raises(UserError, match="positive"):
        overlap.volume_ml(np.ones((1, 1, 1)), spacing)


@given(MASKS)
def test_crop_keeps_every_voxel_and_is_tight(pair):
    first, second = overlap.crop_to_union(*pair)
    assert first.sum() == pair[0].sum() and second.sum() == pair[1].sum()
    union = first | second
    for axis in range(3):
        ends = np.moveaxis(union, axis, 0)[[0, -1]] if union.size else np.ones((2, 1, 1))
        assert ends.any(axis=(1, 2)).all()
