"""Lesion-wise scores: hand-made arrangements, an independent oracle, and what is done to masks by component."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from jaxstroke.errors import UserError
from jaxstroke.inference import postprocess
from jaxstroke.metrics import lesions

ANY_NEIGHBOUR = np.ones((3, 3, 3), int)
PAIRS = hnp.arrays(bool, (2, 3, 5, 6), elements=st.sampled_from([False, False, False, True]))


def row(*values):
    return np.array([[values]], bool)


def test_one_region_over_two_lesions_finds_both():
    counts = lesions.count_lesions(row(1, 1, 1, 1, 1), row(1, 0, 0, 0, 1))
    assert counts == lesions.LesionCounts(predicted=1, reference=2, found=2, missed=0, false_positive=0)
    assert counts.f1 == 1.0
    assert counts.count_difference == 1


def test_two_regions_in_one_lesion_are_no_false_positives():
    counts = lesions.count_lesions(row(1, 0, 0, 0, 1), row(1, 1, 1, 1, 1))
    assert counts == lesions.LesionCounts(predicted=2, reference=1, found=1, missed=0, false_positive=0)


def test_found_missed_and_false_positive():
    counts = lesions.count_lesions(row(1, 1, 0, 0, 0, 1, 0, 1), row(0, 1, 1, 0, 0, 0, 0, 0))
    assert (counts.found, counts.missed, counts.false_positive, counts.count_difference) == (1, 0, 2, 2)
    assert counts.f1 == pytest.approx(1 / (1 + (2 + 0) / 2))
    swapped = lesions.count_lesions(row(0, 1, 1, 0, 0, 0, 0, 0), row(1, 1, 0, 0, 0, 1, 0, 1))
    assert (swapped.found, swapped.missed, swapped.false_positive) == (1, 2, 0)


def test_touching_side_by_side_is_not_overlap():
    assert lesions.count_lesions(row(1, 1, 0, 0), row(0, 0, 1, 1)).f1 == 0.0


def test_empty_masks():
    empty, lesion = row(0, 0, 0), row(0, 1, 0)
    assert lesions.count_lesions(empty, empty).f1 == 1.0
    assert lesions.count_lesions(empty, lesion).f1 == 0.0
    assert lesions.count_lesions(lesion, empty).f1 == 0.0
    assert lesions.count_lesions(np.zeros((0, 4, 4)), np.zeros((0, 4, 4))).f1 == 1.0


def test_voxels_that_share_a_corner_are_one_lesion():
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert lesions.components(mask)[1] == 1


def test_a_slice_is_refused():
    with pytest.raises(UserError, match=r"\(4, 4\)"):
        lesions.components(np.zeros((4, 4)))


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_against_scipy_labels(pair):
    prediction, reference = pair
    predicted, p = ndimage.label(prediction, ANY_NEIGHBOUR)
    expected, r = ndimage.label(reference, ANY_NEIGHBOUR)
    tp = sum(bool((prediction & (expected == label)).any()) for label in range(1, r + 1))
    fp = sum(not (reference & (predicted == label)).any() for label in range(1, p + 1))
    fn = r - tp
    counts = lesions.count_lesions(prediction, reference)
    assert counts == lesions.LesionCounts(p, r, tp, fn, fp)
    assert counts.f1 == pytest.approx(tp / (tp + (fp + fn) / 2) if tp + fp + fn else 1.0)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_largest_component_is_the_largest(pair):
    mask = pair[0]
    kept = postprocess.largest_component(mask)
    labels, count = ndimage.label(mask, ANY_NEIGHBOUR)
    sizes = [int((labels == label).sum()) for label in range(1, count + 1)]
    assert kept.dtype == bool and not (kept & ~mask).any()
    assert kept.sum() == max(sizes, default=0)
    assert lesions.components(kept)[1] == min(count, 1)
