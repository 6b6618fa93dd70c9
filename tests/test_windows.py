"""Windows cover everything, and blending a constant gives the constant."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxstroke.inference.windows import blending_weights, corners, pad_to, starts


@given(st.integers(1, 200), st.integers(1, 64))
def test_windows_cover_every_pixel_and_never_leave_the_array(length: int, window: int) -> None:
    covered = np.zeros(max(length, window), bool)
    for first in starts(length, window):
        assert 0 <= first and first + window <= len(covered)
        covered[first : first + window] = True
    assert covered.all()


def test_starts_by_hand() -> None:
    assert starts(64, 64) == [0]
    assert starts(40, 64) == [0]
    assert starts(96, 64) == [0, 32]
    assert starts(97, 64) == [0, 16, 33]  # two windows would overlap by less than half


def test_corners_are_the_product_of_the_axes() -> None:
    assert corners((1, 96, 64), (1, 64, 64)) == [(0, 0, 0), (0, 32, 0)]


def test_weights_are_symmetric_positive_and_highest_in_the_middle() -> None:
    weights = blending_weights((5, 8))
    assert weights.shape == (5, 8) and weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-6)
    assert weights[2, 3] == weights.max()


def test_pad_to_adds_zeros_at_the_end_only_where_needed() -> None:
    array = np.ones((2, 3, 1))
    padded = pad_to(array, (4, 3))
    assert padded.shape == (4, 3, 1) and padded.sum() == 6 and padded[:2].all()
    assert pad_to(array, (1, 1)) is array
