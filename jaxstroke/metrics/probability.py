"""How good a probability map is, before any threshold: ranking (ROC, precision and recall) and calibration.

With g the reference (0 or 1) and p the probability of each of N voxels,

    AUC      the chance that a lesion voxel has the higher p of the two, beside a voxel of background (ties count half)
    PR area  area under the curve of precision over recall, thresholds at every distinct p, by trapezoids
    Brier    mean of (p - g)^2
    ECE      sum over B bins of p of n_b / N |mean p - mean g|, bins of equal width (Guo et al., ICML 2017)

The precision-recall curve begins at (recall 0, precision 1), as scikit-learn's `precision_recall_curve` does.  AUC
needs lesion and background, else it is undefined (NaN); the PR area of a reference without lesion is undefined too,
unless a challenge's rule says otherwise.  Background far from the head is easily right: it brings Brier and
ECE near 0, so give `within`, the head, and compare these scores only on one field of view.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxstroke.errors import UserError
from jaxstroke.metrics.overlap import Mask, as_mask

BINS = 15

Values = NDArray[np.floating]


@dataclasses.dataclass(frozen=True)
class Reliability:
    """By bin of probability: number of voxels, sum of their probabilities, number of lesion voxels.

    Sums of several studies are the curve of all their voxels.
    """

    voxels: NDArray[np.int64]
    probability: NDArray[np.float64]
    lesion: NDArray[np.int64]

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.voxels + other.voxels, self.probability + other.probability, self.lesion + other.lesion)

    @property
    def ece(self) -> float:
        total = int(self.voxels.sum())
        return float(np.abs(self.probability - self.lesion).sum() / total) if total else math.nan

    def rows(self) -> list[dict[str, float]]:
        """The bins that hold voxels, from the lowest up: mean probability, share of lesion, voxels."""
        return [
            {"probability": float(p / n), "lesion_share": float(g / n), "voxels": int(n)}
            for n, p, g in zip(self.voxels, self.probability, self.lesion, strict=True)
            if n
        ]


@dataclasses.dataclass(frozen=True)
class ProbabilityScores:
    auc: float
    pr_area: float
    brier: float
    ece: float
    reliability: Reliability


def probability_scores(
    probabilities: ArrayLike, reference: ArrayLike, *, within: ArrayLike | None = None, bins: int = BINS
) -> ProbabilityScores:
    """All of them, over the voxels of `within` (all voxels where None)."""
    p, g = _voxels(probabilities, reference, within)
    curve = reliability(p, g, bins=bins)
    auc, area = _areas(p, g)
    return ProbabilityScores(auc, area, _brier(p, g), curve.ece, curve)


def auc(probabilities: ArrayLike, reference: ArrayLike) -> float:
    """Area under the receiver operating characteristic.

    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    return _areas(*_voxels(probabilities, reference, None))[0]


def pr_area(probabilities: ArrayLike, reference: ArrayLike) -> float:
    """Area under precision over recall, by trapezoids.

    >>> round(pr_area([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]), 6)
    0.791667
    """
    return _areas(*_voxels(probabilities, reference, None))[1]


def reliability(probabilities: ArrayLike, reference: ArrayLike, *, bins: int = BINS) -> Reliability:
    """The voxels by bin of probability; bin b holds b / bins <= p < (b + 1) / bins, the last one p = 1 too."""
    p, g = _voxels(probabilities, reference, None)
    where = np.minimum((p * bins).astype(np.intp), bins - 1)
    return Reliability(
        np.bincount(where, minlength=bins),
        np.bincount(where, weights=p, minlength=bins).astype(np.float64),
        np.bincount(where[g], minlength=bins),
    )


def ece(probabilities: ArrayLike, reference: ArrayLike, *, bins: int = BINS) -> float:
    """Expected calibration error.

    >>> round(ece([0.2, 0.2, 0.9, 0.9], [0, 0, 1, 0], bins=2), 6)  # .5 |.2 - 0| + .5 |.9 - .5|
    0.3
    """
    return reliability(probabilities, reference, bins=bins).ece


def brier(probabilities: ArrayLike, reference: ArrayLike) -> float:
    """Mean squared difference of probability and truth."""
    return _brier(*_voxels(probabilities, reference, None))


def _brier(p: Values, g: Mask) -> float:
    if not p.size:
        return math.nan
    p = p.astype(np.float64)
    return float((np.square(p).sum() - 2 * p[g].sum() + np.count_nonzero(g)) / p.size)


def _areas(p: Values, g: Mask) -> tuple[float, float]:
    """AUC and PR area.  Only thresholds at which lesion is gained move recall, so only those are looked at."""
    positives, lesion_at = np.unique(p[g], return_counts=True)
    if not positives.size:
        return math.nan, math.nan
    negatives = p[~g]
    lesion, background = int(lesion_at.sum()), negatives.size
    reached = np.sort(negatives[negatives >= positives[0]])  # the others come after all lesion is found
    above = reached.size - np.searchsorted(reached, positives, side="right")  # background over each value ...
    from_here = reached.size - np.searchsorted(reached, positives, side="left")  # ... and from it up
    below_or_tied = 2 * background - above - from_here  # twice (below + half of the ties)
    auc = float((lesion_at * below_or_tied).sum() / (2 * lesion * background)) if background else math.nan
    found = np.cumsum(lesion_at[::-1])[::-1]  # lesion from each value up
    before = found - lesion_at
    marked_before = before + above
    precision_before = np.where(marked_before > 0, before / np.maximum(marked_before, 1), 1.0)
    precision = found / (found + from_here)
    return auc, float((lesion_at / lesion * (precision_before + precision) / 2).sum())


def _voxels(probabilities: ArrayLike, reference: ArrayLike, within: ArrayLike | None) -> tuple[Values, Mask]:
    """The voxels to judge, flat."""
    p, g = np.asarray(probabilities), as_mask(reference)
    if not np.issubdtype(p.dtype, np.floating):
        p = p.astype(np.float64)
    if p.shape != g.shape:
        raise UserError(f"the probabilities have shape {p.shape}, the reference {g.shape}: bring them to one grid")
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise UserError(
            f"probabilities lie between 0 and 1, these between {p.min():g} and {p.max():g}: put logits through a "
            "sigmoid first"
        )
    if within is None:
        return p.ravel(), g.ravel()
    inside = as_mask(within)
    if inside.shape != p.shape:
        raise UserError(f"the voxels to judge have shape {inside.shape}, the probabilities {p.shape}")
    return p[inside], g[inside]


def pooled(curves: Sequence[Reliability]) -> Reliability | None:
    """The curve of all studies' voxels; None without a study."""
    total = None
    for curve in curves:
        total = curve if total is None else total + curve
    return total
