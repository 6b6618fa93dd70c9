"""Whether a difference between two systems, or two readers, is more than chance.

Paired tests take one value a study from each of two systems, in the same order.  A pair in which either value is
undefined (NaN) is left out, and `n` says how many were left.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from jaxstroke.metrics.overlap import as_masks, count

RESAMPLES = 2000
SEED = 2018
_EXACT_UP_TO = 13  # pairs that differ; SciPy is exact up to here too, ties or not

# Landis and Koch, "The measurement of observer agreement for categorical data", Biometrics 33, 159 (1977).
AGREEMENT = ((0.2, "slight"), (0.4, "fair"), (0.6, "moderate"), (0.8, "substantial"), (1.0, "almost perfect"))


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """A two-sided test on n pairs; statistic and p are NaN where there are too few pairs to test."""

    statistic: float
    p: float
    n: int


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean of n values and its 95 % bootstrap interval; the ends are NaN below two values."""

    mean: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class BlandAltman:
    """Mean difference (bias) of n pairs, its sample standard deviation, and mean -/+ 1.96 sd."""

    mean_difference: float
    sd: float
    lower_limit: float
    upper_limit: float
    n: int


def paired_t_test(first: ArrayLike, second: ArrayLike) -> PairedTest:
    """Student's t = mean(d) / (sd(d) / sqrt(n)) of the differences d = first - second, with n - 1 degrees of freedom.

    Differences that are all the same have no spread: all 0 gives t = 0 and p = 1, all c gives t = +-inf and p = 0.
    """
    differences = _differences(first, second)
    n = differences.size
    if n < 2:
        return PairedTest(math.nan, math.nan, n)
    if np.ptp(differences) <= 1e-9 * np.abs(differences).max():  # the same but for rounding
        shift = float(differences.mean())
        return PairedTest(math.copysign(math.inf, shift), 0.0, n) if shift else PairedTest(0.0, 1.0, n)
    statistic, p = np.asarray(scipy.stats.ttest_1samp(differences, 0.0), float)
    return PairedTest(float(statistic), float(p), n)


def wilcoxon_signed_rank(first: ArrayLike, second: ArrayLike) -> PairedTest:
    """Wilcoxon's signed ranks: the smaller of the rank sums of positive and negative differences.

    Pairs without a difference are dropped (Wilcoxon's own rule); where no pair differs, p = 1.  The p-value is exact
    for small samples and normal for large ones, as SciPy chooses.
    """
    differences = np.round(_differences(first, second), 12)  # .3 - .2 and .2 - .1 must tie, rounding notwithstanding
    n = differences.size
    if n == 0:
        return PairedTest(math.nan, math.nan, 0)
    if not differences.any():
        return PairedTest(0.0, 1.0, n)
    if np.count_nonzero(differences) <= _EXACT_UP_TO:
        return PairedTest(*_exact_signed_ranks(differences[differences != 0]), n)
    statistic, p = np.asarray(scipy.stats.wilcoxon(differences, zero_method="wilcox"), float)
    return PairedTest(float(statistic), float(p), n)


def _exact_signed_ranks(differences: NDArray[np.float64]) -> tuple[float, float]:
    """The smaller rank sum, and how often signs thrown at random give one as small, on either side.

    SciPy goes through all 2^n throws where ranks are tied, which takes seconds; counting the sums takes none.
    """
    ranks = np.rint(2 * scipy.stats.rankdata(np.abs(differences))).astype(int)  # twice, so that halves are whole
    smaller = min(int(ranks[differences > 0].sum()), int(ranks[differences < 0].sum()))
    throws = np.zeros(int(ranks.sum()) + 1)  # by rank sum
    throws[0] = 1
    for rank in ranks:
        throws[rank:] += throws[:-rank].copy()
    return smaller / 2, min(1.0, 2 * float(throws[: smaller + 1].sum() / throws.sum()))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values, in the order given.

    With p(1) <= ... <= p(m), the i-th becomes the largest of (m - j + 1) p(j) over j <= i, and at most 1.
    An undefined p-value stays NaN and does not count among the m.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, float)
    adjusted = np.full(p_values.shape, np.nan)
    defined = np.flatnonzero(~np.isnan(p_values))
    order = defined[np.argsort(p_values[defined], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted


def bland_altman(first: ArrayLike, second: ArrayLike) -> BlandAltman:
    """Bias and 95 % limits of agreement of first - second: mean -/+ 1.96 sd."""
    differences = _differences(first, second)
    n = differences.size
    mean = float(differences.mean()) if n else math.nan
    sd = float(differences.std(ddof=1)) if n > 1 else math.nan
    return BlandAltman(mean, sd, mean - 1.96 * sd, mean + 1.96 * sd, n)


def bootstrap_mean(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Mean and its 95 % percentile bootstrap interval; NaNs are left out.

    The seed is fixed, so the same values give the same interval whenever and wherever they are summarised.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    n = values.size
    if n < 2:
        return Interval(float(values[0]) if n else math.nan, math.nan, math.nan, n)
    drawn = np.random.default_rng(seed).integers(n, size=(resamples, n))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high), n)


def paired_bootstrap(first: ArrayLike, second: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Mean of first - second and its 95 % interval, pairs being drawn together."""
    return bootstrap_mean(_differences(first, second), resamples=resamples, seed=seed)


def cohens_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Agreement of two readers' masks beyond chance: (p_o - p_e) / (1 - p_e) over voxels.

    p_o is the share of voxels on which they agree, p_e = a b + (1 - a)(1 - b) what two readers who mark shares a and b
    at random would reach.  NaN where both masks are empty, or both full.  Background counts as agreement: kappa grows
    with the field of view, so compare it only on the same one.
    """
    first, second = as_masks(first, second)
    return kappa_of_counts(count(first & second), count(first), count(second), first.size)


def kappa_of_counts(both: int, a: int, b: int, voxels: int) -> float:
    """Kappa from the voxels that both mark, that either marks, and that there are."""
    agree = (voxels - a - b + 2 * both) * voxels  # this and `chance` in units of 1 / voxels^2: integers, so exact
    chance = a * b + (voxels - a) * (voxels - b)
    return (agree - chance) / (voxels**2 - chance) if chance != voxels**2 else math.nan


def agreement_level(kappa: float) -> str:
    """Landis and Koch's word for a kappa: poor below 0, then slight, fair, moderate, substantial, almost perfect."""
    if math.isnan(kappa):
        return "undefined"
    if kappa < 0:
        return "poor"
    return next(word for up_to, word in AGREEMENT if kappa <= up_to)


def _differences(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """first - second of the pairs in which both are defined."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired statistics need two lists of one length, not shapes {first.shape} and {second.shape}")
    differences = first - second
    return differences[~np.isnan(differences)]
