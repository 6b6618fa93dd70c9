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

from jaxstroke.metrics import lesions as lesion_counts
from jaxstroke.metrics import overlap, statistics, surface
from jaxstroke.metrics.probability import ProbabilityScores, probability_scores
from jaxstroke.metrics.rules import DEFAULT, Rules
from jaxstroke.metrics.slices import detect_slices

SURFACE_TOLERANCE_MM = 2.0
PANOPTIC_IOU = 0.5


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
    "f1": Column("Voxel F1", "", 3),
    "kappa": Column("Kappa", "", 3),
    "hd95_mm": Column("HD95", "mm", 1),
    "average_surface_distance_mm": Column("Average surface distance", "mm", 2),
    "surface_dice": Column(f"Surface Dice at {SURFACE_TOLERANCE_MM:g} mm", "", 3),
    "volume_ml": Column("Volume", "mL", 1),
    "reference_volume_ml": Column("Reference volume", "mL", 1),
    "volume_difference_ml": Column("Absolute volume difference", "mL", 1),
    "lesions": Column("Lesions", "", 1),
    "reference_lesions": Column("Reference lesions", "", 1),
    "lesion_count_difference": Column("Lesion count difference", "", 1),
    "lesion_f1": Column("Lesion F1", "", 3),
    "missed_lesions": Column("Missed lesions", "", 1),
    "missed_lesion_rate": Column("Missed-lesion rate", "", 3),
    "false_positive_regions": Column("False-positive regions", "", 1),
    "undetected": Column("Undetected", "", 3),
    "panoptic_quality": Column("Panoptic quality", "", 3),
    "segmentation_quality": Column("Segmentation quality", "", 3),
    "recognition_quality": Column("Recognition quality", "", 3),
    "slice_sensitivity": Column("Slice sensitivity", "", 3),
    "slice_specificity": Column("Slice specificity", "", 3),
    "slice_precision": Column("Slice precision", "", 3),
    "slice_dice_empty_1": Column("Slice Dice, empty = 1", "", 3),
    "slice_dice_empty_0": Column("Slice Dice, empty = 0", "", 3),
    "auc": Column("AUC", "", 3),
    "pr_area": Column("PR area", "", 3),
    "brier": Column("Brier score", "", 4),
    "ece": Column("Calibration error", "", 4),
}
PROBABILITY_SCORES = ("auc", "pr_area", "brier", "ece")  # only where there is a probability map
F1_OF_MEANS = Column("F1 of mean precision and recall", "", 3)  # of a summary, never of a study


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


def score(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float], *, rules: Rules = DEFAULT
) -> dict[str, float]:
    """The scores of `COLUMNS` that need masks alone, of two (D, H, W) masks with voxels of (slice, row, column) mm.

    `undetected` is 1 where the reference has lesion and no voxel of it is predicted, else 0, and undefined without
    lesion: its mean is the share of missed cases.
    """
    whole = overlap.as_masks(prediction, reference)
    predicted, expected = overlap.crop_to_union(*whole)  # every score of lesions and surfaces is the same in the crop
    row = _overlap_scores(predicted, expected, whole[0].size, rules)
    surfaces = surface.surface_scores(predicted, expected, spacing_mm, tolerance_mm=SURFACE_TOLERANCE_MM)
    detected = detect_slices(predicted, expected)
    without = len(whole[0]) - len(predicted)  # slices outside the crop: without lesion in both
    slices = dataclasses.replace(detected, tn=detected.tn + without)
    dice_of_slices = overlap.slice_dice(predicted, expected, empty=0.0).sum()
    voxel = overlap.voxel_ml(spacing_mm)
    row |= {
        **dataclasses.asdict(surfaces),
        "volume_ml": row["volume_ml"] * voxel,
        "reference_volume_ml": row["reference_volume_ml"] * voxel,
        "volume_difference_ml": abs(row["volume_ml"] - row["reference_volume_ml"]) * voxel,
        **_lesion_scores(lesion_counts.regions(predicted, expected), rules),
        "slice_sensitivity": slices.sensitivity,
        "slice_specificity": slices.specificity,
        "slice_precision": slices.precision,
        "slice_dice_empty_1": (dice_of_slices + slices.tn) / max(len(whole[0]), 1),
        "slice_dice_empty_0": dice_of_slices / max(len(whole[0]), 1),
    }
    return {name: float(row[name]) for name in COLUMNS if name in row}


def _overlap_scores(predicted: overlap.Mask, expected: overlap.Mask, voxels: int, rules: Rules) -> dict[str, float]:
    """By voxels; volumes are still numbers of voxels."""
    precision, recall = overlap.precision(predicted, expected), overlap.recall(predicted, expected)
    row = {
        "dice": overlap.dice(predicted, expected),
        "precision": precision,
        "recall": recall,
        "f1": overlap.harmonic_f1(precision, recall),
        "kappa": statistics.kappa_of_counts(
            overlap.count(predicted & expected), overlap.count(predicted), overlap.count(expected), voxels
        ),
        "volume_ml": float(overlap.count(predicted)),
        "reference_volume_ml": float(overlap.count(expected)),
    }
    if not row["volume_ml"] and not row["reference_volume_ml"]:
        row |= rules.both_empty
    return row


def _lesion_scores(regions: lesion_counts.Regions, rules: Rules) -> dict[str, float]:
    counts = (
        lesion_counts.touching(regions) if rules.iou is None else lesion_counts.matched(regions, iou=rules.iou).counts
    )
    panoptic = lesion_counts.matched(regions, iou=PANOPTIC_IOU)
    touched = lesion_counts.touching(regions)
    return {
        "lesions": float(counts.predicted),
        "reference_lesions": float(counts.reference),
        "lesion_count_difference": float(counts.count_difference),
        "lesion_f1": counts.f1,
        "missed_lesions": float(counts.missed),
        "missed_lesion_rate": counts.missed / counts.reference if counts.reference else math.nan,
        "false_positive_regions": float(counts.false_positive),
        "undetected": float(touched.found == 0) if counts.reference else math.nan,
        "panoptic_quality": panoptic.panoptic_quality,
        "segmentation_quality": panoptic.segmentation_quality,
        "recognition_quality": panoptic.recognition_quality,
    }


def score_probabilities(
    probabilities: ArrayLike, reference: ArrayLike, *, within: ArrayLike | None = None, rules: Rules = DEFAULT
) -> tuple[dict[str, float], ProbabilityScores]:
    """The scores of `COLUMNS` that need a probability map, and with them the curve of calibration."""
    found = probability_scores(probabilities, reference, within=within)
    row = {name: getattr(found, name) for name in PROBABILITY_SCORES}
    if rules.pr_area_without_lesion and not np.asarray(reference).any():
        row["pr_area"] = float(np.ptp(np.asarray(probabilities)) == 0)
    return row, found


def f1_of_means(summaries: Mapping[str, Summary]) -> float:
    """The F1 that MDANet prints: harmonic mean of mean precision and mean recall.

    It prints the mean over folds of this, each fold's means taken over its own studies.
    """
    if not {"precision", "recall"} <= summaries.keys():
        return math.nan
    return overlap.harmonic_f1(summaries["precision"].mean, summaries["recall"].mean)


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Summary]:
    """A summary of each score that occurs in the rows, in the order of `COLUMNS`.

    Other entries of a row (its study, its patient) are passed over; a score that a row lacks is undefined in it.
    """
    occurring = [name for name in COLUMNS if any(name in row for row in rows)]
    return {name: _summary([float(row.get(name, math.nan)) for row in rows]) for name in occurring}


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
