"""What `scripts/polarity` says of maps whose lesion is bright, dark or not to be seen."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import scripts


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return scripts.load("polarity")


def test_a_bright_a_dark_and_an_even_map_by_hand(script: ModuleType) -> None:
    """Four pixels of head, one of them lesion; what lies outside the head takes no part."""
    head = np.array([[[True, True, True, True, False]]])
    lesion = np.array([[[True, False, False, False, True]]])
    bright = np.array([[[0.9, 0.1, 0.3, 0.5, -70.0]]])
    maps = np.stack([bright, 1 - bright, np.array([[[0.5, 0.9, 0.5, 0.1, 70.0]]])])
    found = script.polarity(maps, lesion, head)
    np.testing.assert_allclose(found.difference, [0.6, -0.6, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.auc, [1.0, 0.0, 0.5])  # the even one: above one, below one, beside one
    np.testing.assert_allclose(found.deviation, np.sqrt([0.0875, 0.0875, 0.08]))
    # .9 .1 .3 .5 and .5 .9 .5 .1 about their means, .45 and .5: -.14 - .08 over four, and both deviations
    one = (-0.35 * 0.4 + 0.05 * -0.4) / 4 / np.sqrt(0.0875 * 0.08)
    np.testing.assert_allclose(found.correlation, [[1, -1, one], [-1, 1, -one], [one, -one, 1]], atol=1e-12)


def test_a_study_without_lesion_counts_for_what_is_defined(script: ModuleType) -> None:
    head = np.ones((1, 1, 4), bool)
    maps = np.array([[[[0.9, 0.1, 0.3, 0.5]]], [[[0.1, 0.9, 0.7, 0.5]]]])
    with_lesion = script.polarity(maps, np.array([[[True, False, False, False]]]), head)
    without = script.polarity(maps, np.zeros((1, 1, 4), bool), head)
    assert np.isnan(without.difference).all() and np.isnan(without.auc).all()
    both = script.over_studies([with_lesion, without])
    np.testing.assert_allclose(both.difference, [0.6, -0.6])
    np.testing.assert_allclose(both.correlation, [[1, -1], [-1, 1]])
