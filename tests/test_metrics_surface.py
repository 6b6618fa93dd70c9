"""Surface distances: hand-computed values, a brute-force oracle, empty masks, and the time they take."""

import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist

from jaxstroke.errors import UserError
from jaxstroke.metrics import surface


def average_surface_distance_mm(prediction, reference, spacing_mm):
    return surface.surface_scores(prediction, reference, spacing_mm, tolerance_mm=1.0).average_surface_distance_mm


MEASURES = (surface.hd95_mm, average_surface_distance_mm)


def line(length, *voxels):
    mask = np.zeros((1, 1, length), bool)
    mask[0, 0, list(voxels)] = True
    return mask


def test_two_voxels_are_their_distance_apart_along_each_axis():
    for axis, edge in enumerate((5.0, 0.5, 2.0)):
        shape = [1, 1, 1]
        shape[axis] = 4
        first, second = np.zeros(shape, bool), np.zeros(shape, bool)
        first.flat[0] = second.flat[3] = True
        for measure in MEASURES:
            assert measure(first, second, (5.0, 0.5, 2.0)) == pytest.approx(3 * edge)


def test_oblique_distance():
    first, second = np.zeros((2, 4, 5), bool), np.zeros((2, 4, 5), bool)
    first[0, 0, 0] = second[1, 3, 4] = True
    expected = math.sqrt((1 * 12.0) ** 2 + (3 * 1.0) ** 2 + (4 * 1.0) ** 2)  # 13 mm
    assert surface.hd95_mm(first, second, (12.0, 1.0, 1.0)) == pytest.approx(expected)


def test_the_larger_directed_percentile_and_the_mean_over_both_are_as_computed_by_hand():
    prediction, reference = line(30, *range(20)), line(30, 0)
    # From the prediction 0, 1, ..., 19 mm: its 95th percentile is .95 * 19.  From the reference 0.  Both together
    # are 21 values 0, 0, 1, ..., 19 (whose own 95th percentile, MedPy's, would be 18).
    assert surface.hd95_mm(prediction, reference, (1.0, 1.0, 1.0)) == pytest.approx(18.05)
    assert average_surface_distance_mm(prediction, reference, (1.0, 1.0, 1.0)) == pytest.approx(190 / 21)


def test_surface_is_the_mask_minus_its_erosion_and_the_edge_of_the_array_counts():
    mask = np.ones((3, 3, 3), bool)
    assert surface.surface_voxels(mask).sum() == 26  # all but the centre
    rng = np.random.default_rng(3)
    for _ in range(20):
        mask = ndimage.binary_dilation(rng.random((6, 7, 8)) > 0.9, iterations=2)
        cross = ndimage.generate_binary_structure(3, 1)
        np.testing.assert_array_equal(surface.surface_voxels(mask), mask & ~ndimage.binary_erosion(mask, cross))


def test_empty_masks():
    empty, lesion = np.zeros((2, 3, 4), bool), np.ones((2, 3, 4), bool)
    for measure in MEASURES:
        assert measure(empty, empty, (1.0, 1.0, 1.0)) == 0.0
        assert measure(lesion, lesion, (1.0, 1.0, 1.0)) == 0.0
        assert math.isnan(measure(empty, lesion, (1.0, 1.0, 1.0)))
        assert math.isnan(measure(lesion, empty, (1.0, 1.0, 1.0)))


def oracle(prediction, reference, spacing):
    """Both sets of directed distances by comparing every surface voxel with every other one."""

    def points(mask):
        padded = np.pad(mask, 1)
        voxels = np.argwhere(mask)
        steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
        outside = [not all(padded[tuple(voxel + 1 + step)] for step in steps) for voxel in voxels]
        return voxels[outside] * np.asarray(spacing)

    distances = cdist(points(prediction), points(reference))
    return distances.min(axis=1), distances.min(axis=0)


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(bool, st.tuples(st.just(2), *[st.integers(1, 6)] * 3), elements=st.booleans()),
    st.tuples(*[st.floats(0.3, 8.0)] * 3),
)
def test_against_brute_force(pair, spacing):
    assume(pair[0].any() and pair[1].any())
    there, back = oracle(*pair, spacing)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    both = np.concatenate([there, back])
    assert surface.hd95_mm(*pair, spacing) == pytest.approx(hd95, rel=1e-5)
    assert average_surface_distance_mm(*pair, spacing) == pytest.approx(both.mean(), rel=1e-5)
    assert surface.hd95_mm(*pair, spacing) == surface.hd95_mm(*pair[::-1], spacing)


def test_background_around_the_masks_changes_nothing():
    rng = np.random.default_rng(4)
    first, second = rng.random((2, 4, 5, 6)) > 0.6
    padded = np.pad(first, 5), np.pad(second, 5)
    for measure in MEASURES:
        assert measure(*padded, (5.0, 1.0, 1.2)) == measure(first, second, (5.0, 1.0, 1.2))


def test_few_surfaces_far_apart_are_measured_as_by_maps(monkeypatch):
    """In a large box a tree of points takes the place of distance maps."""
    first, second = np.zeros((20, 60, 60), bool), np.zeros((20, 60, 60), bool)
    first[1, 2:5, 2:6] = second[2, 3:7, 2:5] = first[18, 50:57, 55] = second[15, 50:52, 56:58] = True
    spacing = (5.0, 1.0, 1.2)
    by_tree = surface.directed_distances_mm(first, second, spacing)
    monkeypatch.setattr(surface, "_of_points", None)
    monkeypatch.setattr(surface, "_MAP_VOXELS_PER_POINT", 10**9)
    by_map = surface.directed_distances_mm(first, second, spacing)
    for one, other in zip(by_tree, by_map, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_spacing_must_fit_the_axes():
    with pytest.raises(UserError, match="3 axes"):
        surface.hd95_mm(line(3, 0), line(3, 1), (1.0, 1.0))


def test_a_large_volume_takes_a_fraction_of_a_second():
    first, second = np.zeros((256, 256, 76), bool), np.zeros((256, 256, 76), bool)
    first[60:160, 80:140, 20:50] = second[66:170, 77:138, 25:55] = True
    started = time.process_time()
    surface.hd95_mm(first, second, (0.88, 0.88, 2.0))
    assert time.process_time() - started < 1.0  # 0.04 s on an idle core; the margin is for busy ones
