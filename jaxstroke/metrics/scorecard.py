"""Every score of a study in one row, and what many rows come to.

    row = score(prediction, reference, spacing_mm)        # {"dice": 0.61, "hd95_mm": 8.2, ...}
    summary = summarise(rows)["dice"]                     # mean, sd, median, 95 % interval, n, undefined

A score that is undefined for a study (no lesion in the reference has no recall) is NaN.  A summary leaves it out of the
mean and says how many there were.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxstroke.metrics import overlap, statistics, surface
from jaxstroke.metrics.lesions import count_lesions


@dataclasses.dataclass(frozen=True)
class Column:
    """How a score is printed, wherever it is printed."""

    title: str
    unit: str
    decimals: int

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float) -> str:
        return "undefined" if math.isnan(value) else f"{value:.{self.decimals}f}"


COLUMNS: Mapping[str, Column] = {
    "dice": Column("Dice", "", 3),
    "precision": Column("Precision", "", 3),
    "recall": Column("Recall", "", 3),
    "hd95_mm": Column("HD95", "mm", 1),
    "volume_ml": Column("Volume", "mL", 1),
    "reference_volume_ml": Column("Reference volume", "mL", 1),
    "absolute_volume_difference_ml": Column("Volume difference", "mL", 1),
    "lesion_count_difference": Column("Lesion count difference", "", 1),
    "lesion_f1": Column("Lesion F1", "", 3),
    "missed_lesions": Column("Missed lesions", "", 1),
    "false_positive_regions": Column("False-positive regions", "", 1),
    "undetected": Column("Undetected", "", 3),
    "slice_dice_empty_1": Column("Slice Dice, empty = 1", "", 3),
    "slice_dice_empty_0": Column("Slice Dice, empty = 0", "", 3),
}

NO_LESION = "no lesion"
STRATA = ("< 10 mL", "10-50 mL", "> 50 mL", NO_LESION)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One score over studies.

    `sd` is the sample standard deviation, `low` and `high` the 95 % bootstrap interval of the mean; all three are NaN
    below two values.  `n` counts the studies with a value, `undefined` those without.
    """

    mean: float
    sd: float
    median: float
    low: float
    high: float
    n: int
    undefined: int


def score(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]) -> dict[str, float]:
    """All the scores of `COLUMNS` for two (D, H, W) masks with voxels of (slice, row, column) spacing_mm.

    `undetected` is 1 where the reference has lesion and no voxel of it is predicted, else 0, and undefined without
    lesion: its mean is the share of missed cases.
    """
    whole = overlap.as_masks(prediction, reference)
    predicted, expected = overlap.crop_to_union(*whole)  # every score below is the same in the crop, and sooner there
    volume = overlap.volume_ml(predicted, spacing_mm)
    reference_volume = overlap.volume_ml(expected, spacing_mm)
    lesions = count_lesions(predicted, expected)
    return {
        "dice": overlap.dice(predicted, expected),
        "precision": overlap.precision(predicted, expected),
        "recall": overlap.recall(predicted, expected),
        "hd95_mm": surface.hd95_mm(predicted, expected, spacing_mm),
        "volume_ml": volume,
        "reference_volume_ml": reference_volume,
        "absolute_volume_difference_ml": abs(volume - reference_volume),
        "lesion_count_difference": float(lesions.count_difference),
        "lesion_f1": lesions.f1,
        "missed_lesions": float(lesions.missed),
        "false_positive_regions": float(lesions.false_positive),
        "undetected": float(lesions.found == 0) if lesions.reference else math.nan,
        "slice_dice_empty_1": float(overlap.slice_dice(*whole, empty=1.0).mean()),
        "slice_dice_empty_0": float(overlap.slice_dice(*whole, empty=0.0).mean()),
    }


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Summary]:
    """A summary of each score that occurs in the rows, in the order of `COLUMNS`.

    Other entries of a row (its study, its patient) are passed over; a score that a row lacks is undefined in it.
    """
    occurring = [name for name in COLUMNS if any(name in row for row in rows)]
    return {name: _summary([float(row.get(name, math.nan)) for row in rows]) for name in occurring}


def volume_stratum(reference_volume_ml: float) -> str:
    """The stratum of a study by the volume of its reference: below 10 mL, 10 to 50, above 50, or no lesion at all."""
    if reference_volume_ml == 0:
        return NO_LESION
    if reference_volume_ml < 10:
        return STRATA[0]
    return STRATA[1] if reference_volume_ml <= 50 else STRATA[2]


def by_stratum(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each stratum that has any, in the order of `STRATA`."""
    strata = [volume_stratum(float(row["reference_volume_ml"])) for row in rows]
    grouped = {
        word: [row for row, stratum in zip(rows, strata, strict=True) if stratum == word] for word in STRATA
    }
    return {word: members for word, members in grouped.items() if members}


def _summary(values: Sequence[float]) -> Summary:
    defined = np.asarray([value for value in values if not math.isnan(value)])
    interval = statistics.bootstrap_mean(defined)
    return Summary(
        mean=interval.mean,
        sd=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        median=float(np.median(defined)) if defined.size else math.nan,
        low=interval.low,
        high=interval.high,
        n=defined.size,
        undefined=len(values) - defined.size,
    )
