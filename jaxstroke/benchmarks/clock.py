"""Timing on a machine that others use too: everything in turn, round after round, so that only ratios are trusted."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one thing, by round."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def as_json(self) -> dict[str, float]:
        """Milliseconds: the best round, the median, and the worst, which tells how busy the machine was."""
        return {"best_ms": 1e3 * self.best, "median_ms": 1e3 * self.median, "worst_ms": 1e3 * max(self.seconds)}


def in_turn(runs: Mapping[str, Callable[[], Any]], *, rounds: int, warm_up: int = 1) -> dict[str, Times]:
    """Times each once a round, all in every round; a run must not return before its work is done."""
    for run in runs.values():
        for _ in range(warm_up):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {name: Times(tuple(found)) for name, found in seconds.items()}
