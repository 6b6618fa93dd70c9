"""Systems held against each other on the same studies: differences, agreement of volumes, kappa."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jaxstroke.judging import kept
from jaxstroke.judging.judged import Judged, Unit
from jaxstroke.metrics import statistics
from jaxstroke.metrics.statistics import BlandAltman, Interval, PairedTest

SCORES = ("dice", "precision", "recall", "hd95_mm", "volume_difference_ml", "lesion_f1")


@dataclasses.dataclass(frozen=True)
class Difference:
    """`first` minus `second` in one score, on the studies in which both have a value.

    `t_holm` and `wilcoxon_holm` are adjusted for all comparisons of the table.
    """

    target: str
    score: str
    first: str
    second: str
    mean_first: float
    mean_second: float
    difference: Interval
    t: PairedTest
    wilcoxon: PairedTest
    t_holm: float = math.nan
    wilcoxon_holm: float = math.nan
    values: tuple[float, ...] = ()

    @property
    def stars(self) -> str:
        """By the adjusted Wilcoxon test: * below .05, ** below .01, *** below .001."""
        p = self.wilcoxon_holm
        return "" if math.isnan(p) else "*" * sum(p < limit for limit in (0.05, 0.01, 0.001))


@dataclasses.dataclass(frozen=True)
class Agreement:
    """A system against the reference: volumes (system - reference, mL) and kappa over studies."""

    target: str
    system: str
    volumes: BlandAltman
    kappa: Interval
    predicted_ml: tuple[float, ...]
    reference_ml: tuple[float, ...]
    kappas: tuple[float, ...]


def differences(systems: Sequence[Judged], scores: Sequence[str], *, all_pairs: bool = False) -> list[Difference]:
    """Each system against the first, or every pair."""
    found = []
    for target in _targets(systems):
        units = [unit for unit in systems[0].rows if unit[1] == target]
        for score in scores:
            for index, first in enumerate(systems if all_pairs else systems[:1]):
                found += [_difference(first, second, score, target, units) for second in systems[index + 1 :]]
    t = statistics.holm([one.t.p for one in found])
    wilcoxon = statistics.holm([one.wilcoxon.p for one in found])
    return [
        dataclasses.replace(one, t_holm=float(p), wilcoxon_holm=float(q))
        for one, p, q in zip(found, t, wilcoxon, strict=True)
    ]


def _difference(first: Judged, second: Judged, score: str, target: str, units: Sequence[Unit]) -> Difference:
    pairs = [
        (a, b)
        for a, b in zip(first.values(score, units), second.values(score, units), strict=True)
        if not math.isnan(a) and not math.isnan(b)
    ]
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    return Difference(
        target,
        score,
        first.name,
        second.name,
        statistics.bootstrap_mean(ours).mean,
        statistics.bootstrap_mean(theirs).mean,
        statistics.paired_bootstrap(ours, theirs),
        statistics.paired_t_test(ours, theirs),
        statistics.wilcoxon_signed_rank(ours, theirs),
        values=tuple(a - b for a, b in pairs),
    )


def agreements(systems: Sequence[Judged]) -> list[Agreement]:
    """Each system with the reference of each annotation."""
    found = []
    for target in _targets(systems):
        units = [unit for unit in systems[0].rows if unit[1] == target]
        for system in systems:
            predicted, expected = system.values("volume_ml", units), system.values("reference_volume_ml", units)
            kappas = system.values("kappa", units)
            found.append(
                Agreement(
                    target,
                    system.name,
                    statistics.bland_altman(predicted, expected),
                    statistics.bootstrap_mean(kappas),
                    tuple(predicted),
                    tuple(expected),
                    tuple(kappas),
                )
            )
    return found


@dataclasses.dataclass(frozen=True)
class PairKappa:
    """Two readers, two systems, or one of each: kappa over the studies that both drew in."""

    target: str
    first: str
    second: str
    kappa: Interval
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.first}, {self.second}" + ("" if self.target == "lesion" else f" ({self.target})")


def pair_kappas(systems: Sequence[Judged], split: str) -> list[PairKappa]:
    """Of every two that drew a mask, annotations among them; empty where evaluate kept no masks."""
    masks: kept.Masks = {}
    for path in dict.fromkeys(one.path for one in systems):
        own = {one.system: one.name for one in systems if one.path == path}
        for place, drawn in kept.read(path, split, own).items():
            masks.setdefault(place, {}).update({own.get(maker, maker): mask for maker, mask in drawn.items()})
    return [
        PairKappa(target, first, second, statistics.bootstrap_mean(values), tuple(values))
        for (target, first, second), values in kept.kappas(masks).items()
    ]


def as_json(found: Sequence[Difference], agreed: Sequence[Agreement], pairs: Sequence[PairKappa]) -> dict[str, Any]:
    return {
        "kappa": [
            {**_plain(dataclasses.asdict(one)), "kappa_level": statistics.agreement_level(one.kappa.mean)}
            for one in pairs
        ],
        "differences": [_plain(dataclasses.asdict(one)) for one in found],
        "agreement": [
            {**_plain(dataclasses.asdict(one)), "kappa_level": statistics.agreement_level(one.kappa.mean)}
            for one in agreed
        ],
    }


def _plain(value: Any) -> Any:
    """Undefined numbers as null."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _targets(systems: Sequence[Judged]) -> list[str]:
    return list(dict.fromkeys(target for _, target in systems[0].rows))
