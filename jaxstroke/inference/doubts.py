"""What a run knows of its own answers: an interval for a volume, how sure each lesion is, when not to believe it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxstroke.inference import unlike
from jaxstroke.inference.predictor import Answer
from jaxstroke.metrics import conformal, lesions
from jaxstroke.runs.calibration import Calibration

UNLIKE = "unlike"  # of a row of scores: the reasons


@dataclasses.dataclass(frozen=True)
class Interval:
    """For the volume of a lesion, in mL; `level` is the share of studies like the validation studies that it is for."""

    low_ml: float
    high_ml: float
    level: float

    def __str__(self) -> str:
        return f"{self.low_ml:.1f} to {self.high_ml:.1f} mL ({self.level:.0%})"


@dataclasses.dataclass(frozen=True)
class Doubts:
    """Of what was calibrated for each member; without that nothing is known."""

    calibrations: tuple[Calibration, ...] = ()

    def interval(self, target: str, volume_ml: float) -> Interval | None:
        """None where there were too few validation studies for the level.

        Several members take the widest of theirs, each of which is for its member's volume: an interval of their mean
        is promised by nothing, and is worth what `evaluate` measures of it.
        """
        if not self.calibrations or any(target not in one.residuals for one in self.calibrations):
            return None
        level = max(one.level for one in self.calibrations)
        q = max(conformal.reach(one.residuals[target], level) for one in self.calibrations)
        return Interval(*conformal.interval_ml(volume_ml, q), level) if math.isfinite(q) else None

    def of_study(self, answer: Answer) -> dict[str, str]:
        """What a row of scores says of its study; nothing where nothing was calibrated."""
        return {UNLIKE: "; ".join(self.unlike(answer))} if self.calibrations else {}

    def unlike(self, answer: Answer) -> list[str]:
        """Why a study is unlike those that the members were trained on: what any of them says."""
        said = [reason for one in self.calibrations for reason in unlike.reasons(answer.figures, one.seen)]
        return list(dict.fromkeys(said))


def each_lesion(
    mask: np.ndarray, probabilities: np.ndarray, votes: np.ndarray | None, spacing_mm: Sequence[float]
) -> list[dict[str, Any]]:
    """A row for each 26-connected lesion, the largest first: volume, mean probability, and with several passes the
    agreement, which is the mean share of them that marks a voxel of it."""
    labels, count = lesions.components(mask)
    volumes = lesions.component_volumes_ml(labels, count, spacing_mm)
    inside = labels > 0
    voxels = np.bincount(labels[inside], minlength=count + 1)

    def means(values: np.ndarray) -> np.ndarray:
        return np.bincount(labels[inside], weights=values[inside], minlength=count + 1) / np.maximum(voxels, 1)

    columns: dict[str, np.ndarray] = {"volume_ml": volumes, "probability": means(probabilities)}
    if votes is not None:
        columns["agreement"] = means(votes)
    order = sorted(range(1, count + 1), key=lambda label: (-voxels[label], label))
    return [
        {"lesion": number, **{name: float(values[label]) for name, values in columns.items()}}
        for number, label in enumerate(order, start=1)
    ]


def entropy_bits(probabilities: np.ndarray) -> np.ndarray:
    """Of each voxel: 0 where the network is sure, 1 at one half.

    >>> entropy_bits(np.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    p = np.clip(np.asarray(probabilities, np.float64), 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(-p * np.log2(p) - (1 - p) * np.log2(1 - p), nan=0.0) + 0.0


def flagged(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of one system's rows: how many studies were looked at, and why those that are unlike are; None where nothing was
    calibrated."""
    said = {row["study"]: row[UNLIKE] for row in rows if UNLIKE in row}
    return {"studies": len(said), "reasons": {study: why for study, why in said.items() if why}} if said else None


def coverage(rows: Sequence[Mapping[str, Any]], doubts: Doubts) -> dict[str, dict[str, float]]:
    """Of one system's rows by target: how many annotated volumes the interval held, of how many, and its mean width."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        interval = doubts.interval(row["target"], row["volume_ml"])
        if interval is None:
            continue
        one = found.setdefault(row["target"], {"level": interval.level, "studies": 0, "held": 0, "mean_width_ml": 0.0})
        one["studies"] += 1
        one["held"] += interval.low_ml <= row["reference_volume_ml"] <= interval.high_ml
        one["mean_width_ml"] += (interval.high_ml - interval.low_ml - one["mean_width_ml"]) / one["studies"]
    return found
