"""Temperature scaling: probabilities made as sure as they are right, without a change of their order.

    scaled(p) = sigmoid(logit(p) / T)        T > 1 makes them less sure, T < 1 surer (Guo et al., ICML 2017)

T is where the mean negative log-likelihood of the voxels is least.  Studies are gone through once: their voxels are
counted in bins of the logit, `WIDTH` wide, of which each is treated as its mean probability.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxstroke.metrics.overlap import as_mask
from jaxstroke.metrics.probability import BINS, Reliability

WIDTH = 0.02
LEAST, MOST = 0.1, 10.0  # temperatures
_FARTHEST = 16.0  # logits beyond are counted with these: probabilities of 1e-7
_STEPS = 60  # of the search by golden section, which leaves 0.618^60 of the range
_GOLDEN = (math.sqrt(5) - 1) / 2


def logit(probabilities: ArrayLike) -> NDArray[Any]:
    """log(p / (1 - p)), at most 16 away from 0.

    >>> float(logit(0.5)), float(logit(1.0))
    (0.0, 16.0)
    """
    p = np.asarray(probabilities, np.float64)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(p) - np.log1p(-p), -_FARTHEST, _FARTHEST)


def scaled(probabilities: ArrayLike, temperature: float) -> NDArray[Any]:
    """The probabilities at a temperature; at 1 the very same values.

    >>> round(float(scaled(0.8, 2.0)), 6)  # odds 4 become 2
    0.666667
    """
    values = np.asarray(probabilities)
    if temperature == 1.0:
        return values
    return (1 / (1 + np.exp(-logit(values) / temperature))).astype(values.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Logits:
    """By bin of the logit: voxels, the sum of their probabilities, and how many of them are lesion."""

    voxels: NDArray[np.int64]
    probability: NDArray[np.float64]
    lesion: NDArray[np.int64]

    @classmethod
    def of(cls, probabilities: ArrayLike, reference: ArrayLike) -> Logits:
        p, g = np.asarray(probabilities, np.float64).ravel(), as_mask(reference).ravel()
        where = np.rint((logit(p) + _FARTHEST) / WIDTH).astype(np.intp)
        bins = round(2 * _FARTHEST / WIDTH) + 1
        return cls(
            np.bincount(where, minlength=bins),
            np.bincount(where, weights=p, minlength=bins).astype(np.float64),
            np.bincount(where[g], minlength=bins),
        )

    def __add__(self, other: Logits) -> Logits:
        return Logits(self.voxels + other.voxels, self.probability + other.probability, self.lesion + other.lesion)

    def at(self, temperature: float) -> Logits:
        """The same voxels with their probabilities scaled."""
        n = np.maximum(self.voxels, 1)
        return dataclasses.replace(self, probability=scaled(self.probability / n, temperature) * self.voxels)

    def loss(self, temperature: float) -> float:
        """Mean negative log-likelihood at a temperature."""
        z = logit(self.probability / np.maximum(self.voxels, 1)) / temperature
        losses = self.lesion * np.logaddexp(0, -z) + (self.voxels - self.lesion) * np.logaddexp(0, z)
        return float(losses.sum() / self.voxels.sum())

    def brier(self) -> float:
        p = self.probability / np.maximum(self.voxels, 1)
        return float((self.voxels * p**2 - 2 * p * self.lesion + self.lesion).sum() / self.voxels.sum())

    def reliability(self, *, bins: int = BINS) -> Reliability:
        """The curve over bins of probability."""
        p = self.probability / np.maximum(self.voxels, 1)
        where = np.minimum((p * bins).astype(np.intp), bins - 1)
        parts = (self.voxels, self.probability, self.lesion)
        voxels, probability, lesion = (np.bincount(where, weights=part, minlength=bins) for part in parts)
        return Reliability(voxels.astype(np.int64), probability.astype(np.float64), lesion.astype(np.int64))


def best_temperature(found: Logits) -> float:
    """Where the loss is least, which is convex in 1 / T; 1 where there is no lesion, or nothing else, to learn from."""
    if not 0 < found.lesion.sum() < found.voxels.sum():
        return 1.0
    low, high = math.log(LEAST), math.log(MOST)
    for _ in range(_STEPS):
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if found.loss(math.exp(a)) <= found.loss(math.exp(b)):
            high = b
        else:
            low = a
    return math.exp((low + high) / 2)
