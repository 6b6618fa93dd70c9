"""Tests, intervals and agreement against hand-computed values and SciPy."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from jaxstroke.metrics import statistics


def test_paired_t_by_hand():
    test = statistics.paired_t_test([3.0, 5.0, 4.0, 8.0], [1.0, 4.0, 4.0, 3.0])  # differences 2, 1, 0, 5
    t = 2 / math.sqrt(14 / 3 / 4)
    assert (test.statistic, test.n) == (pytest.approx(t), 4)
    assert test.p == pytest.approx(2 * scipy.stats.t.sf(t, 3))


def test_paired_tests_agree_with_scipy():
    rng = np.random.default_rng(6)
    first = rng.random(60)
    second = first + rng.normal(0.05, 0.2, 60)
    assert statistics.paired_t_test(first, second).p == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue)
    wilcoxon = scipy.stats.wilcoxon(first, second)
    ours = statistics.wilcoxon_signed_rank(first, second)
    assert (ours.statistic, ours.p) == (pytest.approx(wilcoxon.statistic), pytest.approx(wilcoxon.pvalue))


def test_wilcoxon_by_hand():
    # Differences 1, -2, 3, 4, 5: the negative rank sum is 2; of 32 signings those with a sum of 0, 1 or 2 are three.
    test = statistics.wilcoxon_signed_rank([1, 0, 3, 4, 5], [0, 2, 0, 0, 0])
    assert (test.statistic, test.p) == (2, pytest.approx(2 * 3 / 32))


def test_equal_differences_tie_in_spite_of_rounding():
    rough = statistics.wilcoxon_signed_rank([0.3, 0.2, 0.9, 0.5], [0.2, 0.3, 0.8, 0.1])
    exact = statistics.wilcoxon_signed_rank([3, 2, 9, 5], [2, 3, 8, 1])
    assert (rough.statistic, rough.p) == (exact.statistic, exact.p)


def test_undefined_pairs_are_left_out_and_counted():
    first, second = [1.0, math.nan, 3.0, 7.0], [0.0, 1.0, math.nan, 4.0]
    for test in (statistics.paired_t_test, statistics.wilcoxon_signed_rank):
        assert test(first, second) == test([1.0, 7.0], [0.0, 4.0])
        assert test(first, second).n == 2
    assert statistics.bland_altman(first, second).n == statistics.paired_bootstrap(first, second).n == 2


def test_differences_without_spread():
    same = statistics.paired_t_test([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (same.statistic, same.p) == (0.0, 1.0)
    shifted = statistics.paired_t_test([0.3, 0.4, 0.6], [0.4, 0.5, 0.7])
    assert (shifted.statistic, shifted.p) == (-math.inf, 0.0)
    assert statistics.wilcoxon_signed_rank([0.1, 0.2], [0.1, 0.2]).p == 1.0


def test_too_few_pairs_give_no_p():
    assert math.isnan(statistics.paired_t_test([1.0], [0.0]).p)
    assert math.isnan(statistics.wilcoxon_signed_rank([math.nan], [0.0]).p)


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        statistics.paired_t_test([1, 2], [1, 2, 3])


def test_holm_by_hand_and_undefined():
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(statistics.holm([0.7, 0.6]), [1.0, 1.0])
    np.testing.assert_allclose(statistics.holm([0.02, math.nan, 0.5]), [0.04, math.nan, 0.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_the_raw_and_the_bonferroni_p_and_keeps_the_order(p_values):
    adjusted = statistics.holm(p_values)
    raw = np.asarray(p_values)
    assert (adjusted >= raw).all() and (adjusted <= np.minimum(1, len(raw) * raw)).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()


def test_bland_altman_by_hand():
    agreement = statistics.bland_altman([0.5, 0.7, 0.9], [0.4, 0.8, 0.6])  # differences .1, -.1, .3
    assert agreement.mean_difference == pytest.approx(0.1)
    assert agreement.sd == pytest.approx(0.2)
    assert (agreement.lower_limit, agreement.upper_limit) == (pytest.approx(-0.292), pytest.approx(0.492))


def test_kappa_by_hand():
    # 20 both, 5 and 10 one alone, 15 neither (a textbook table): p_o = .7, p_e = .5, kappa = .4.
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert statistics.cohens_kappa(first, second) == pytest.approx(0.4)


def test_kappa_at_its_ends():
    mask = np.array([1, 0, 1, 0])
    assert statistics.cohens_kappa(mask, mask) == 1.0
    assert statistics.cohens_kappa(mask, 1 - mask) == -1.0
    assert statistics.cohens_kappa(mask, np.zeros(4)) == 0.0
    assert math.isnan(statistics.cohens_kappa(np.zeros(4), np.zeros(4)))


@pytest.mark.parametrize(
    "kappa, level",
    [(-0.1, "poor"), (0.0, "slight"), (0.2, "slight"), (0.21, "fair"), (0.5, "moderate"), (0.65, "substantial")]
    + [(0.81, "almost perfect"), (1.0, "almost perfect"), (math.nan, "undefined")],
)
def test_agreement_levels(kappa, level):
    assert statistics.agreement_level(kappa) == level


def test_bootstrap_interval_is_near_the_normal_one_and_repeatable():
    values = np.random.default_rng(7).normal(3.0, 1.0, 400)
    interval = statistics.bootstrap_mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)
    assert interval == statistics.bootstrap_mean(values)


def test_paired_bootstrap_is_of_the_differences():
    first, second = np.array([1.0, 2.0, 4.0]), np.array([0.5, 2.5, 3.0])
    assert statistics.paired_bootstrap(first, second) == statistics.bootstrap_mean(first - second)


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_wilcoxon_with_ties_is_that_of_all_throws_of_signs(n: int) -> None:
    for seed in range(6):
        differences = np.random.default_rng(seed).integers(-3, 4, n).astype(float)
        if not differences.any():
            continue
        ours = statistics.wilcoxon_signed_rank(differences, np.zeros(n))
        there = differences[differences != 0]
        ranks = np.array([(np.abs(there) < abs(d)).sum() + ((np.abs(there) == abs(d)).sum() + 1) / 2 for d in there])
        sums = [ranks[np.array(signs, bool)].sum() for signs in itertools.product((0, 1), repeat=there.size)]
        smaller = min(ranks[there > 0].sum(), ranks[there < 0].sum())
        assert ours.statistic == smaller
        assert ours.p == pytest.approx(min(1, 2 * np.mean(np.asarray(sums) <= smaller)))
