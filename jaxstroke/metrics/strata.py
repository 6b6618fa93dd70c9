"""Studies sorted into strata: by volume of lesion, by number of lesions, by image quality; and slabs pooled by patient.

A row is what `scorecard.score` gives for a study, with its `study` and `patient`; `quality` where the data set has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxstroke.metrics.overlap import harmonic_f1

Row = Mapping[str, Any]
Grouped = dict[str, list[Row]]

NO_LESION = "no lesion"
VOLUMES = ("< 10 mL", "10-50 mL", "> 50 mL", NO_LESION)
NUMBERS = ("1 lesion", "2-3 lesions", "> 3 lesions", NO_LESION)


def volume_stratum(reference_volume_ml: float) -> str:
    """By the volume of the reference: below 10 mL, 10 to 50, above 50, or no lesion at all."""
    if reference_volume_ml == 0:
        return NO_LESION
    if reference_volume_ml < 10:
        return VOLUMES[0]
    return VOLUMES[1] if reference_volume_ml <= 50 else VOLUMES[2]


def number_stratum(reference_lesions: float) -> str:
    """By the number of the reference's lesions."""
    if reference_lesions == 0:
        return NO_LESION
    return NUMBERS[0] if reference_lesions == 1 else NUMBERS[1] if reference_lesions <= 3 else NUMBERS[2]


def strata(rows: Sequence[Row]) -> dict[str, Grouped]:
    """The rows by each way of sorting that they have what is needed for: volume, lesions, quality."""
    found = {
        "volume": _sorted(rows, "reference_volume_ml", lambda value: volume_stratum(float(value)), VOLUMES),
        "lesions": _sorted(rows, "reference_lesions", lambda value: number_stratum(float(value)), NUMBERS),
        "quality": _sorted(rows, "quality", str, ()),
    }
    return {way: grouped for way, grouped in found.items() if grouped}


def by_volume(rows: Sequence[Row]) -> Grouped:
    """The rows of each volume stratum that has any, in the order of `VOLUMES`."""
    return strata(rows).get("volume", {})


def _sorted(rows: Sequence[Row], name: str, stratum: Callable[[Any], str], order: Sequence[str]) -> Grouped:
    if not rows or any(row.get(name) in (None, "") for row in rows):
        return {}
    words = [stratum(row[name]) for row in rows]
    return {
        word: [row for row, other in zip(rows, words, strict=True) if other == word]
        for word in (*order, *sorted(set(words) - set(order)))
        if word in words
    }


def shared_patients(rows: Sequence[Row]) -> bool:
    """Whether studies of these rows share a patient, as the slabs of a short scanner do."""
    return len({row["patient"] for row in rows}) < len({row["study"] for row in rows})


def by_patient(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row a patient from the rows of one system and target, its slabs taken as one study.

    Voxels are added up, and lesions: one that both slabs cut counts twice.  Distances and what else cannot be had from
    sums are left out.
    """
    patients: dict[str, list[Row]] = {}
    for row in rows:
        patients.setdefault(str(row["patient"]), []).append(row)
    return [{"study": patient, "patient": patient, **_pooled(slabs)} for patient, slabs in patients.items()]


def _pooled(slabs: Sequence[Row]) -> dict[str, float]:
    def total(name: str) -> float:
        return sum(float(slab[name]) for slab in slabs)

    predicted, expected = total("volume_ml"), total("reference_volume_ml")
    # Dice = 2 common / (P + G); where both are empty it may be anything, and nothing is in common
    sums = [(float(slab["volume_ml"]) + float(slab["reference_volume_ml"]), float(slab["dice"])) for slab in slabs]
    common = sum(dice * both / 2 for both, dice in sums if both)
    precision = common / predicted if predicted else math.nan
    recall = common / expected if expected else math.nan
    lesions = total("reference_lesions")
    missed, false = total("missed_lesions"), total("false_positive_regions")
    found = lesions - missed
    regions = 2 * found + missed + false
    return {
        "dice": 2 * common / (predicted + expected) if predicted + expected else max(float(s["dice"]) for s in slabs),
        "precision": precision,
        "recall": recall,
        "f1": harmonic_f1(precision, recall),
        "volume_ml": predicted,
        "reference_volume_ml": expected,
        "volume_difference_ml": abs(predicted - expected),
        "lesions": total("lesions"),
        "reference_lesions": lesions,
        "lesion_count_difference": abs(total("lesions") - lesions),
        "lesion_f1": 2 * found / regions if regions else 1.0,
        "missed_lesions": missed,
        "missed_lesion_rate": missed / lesions if lesions else math.nan,
        "false_positive_regions": false,
        "undetected": float(common == 0) if lesions else math.nan,
    }
