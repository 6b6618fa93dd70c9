"""The largest batch that fits, found with few compilations: each of them takes minutes."""

from __future__ import annotations

import math
from collections.abc import Callable


def largest(need_bytes: Callable[[int], float], limit_bytes: float, too_many: int, its_need: float) -> int:
    """Returns the largest batch whose need is within the limit, 0 if there is none; `too_many` is known to exceed it.

    What is needed grows nearly as a straight line with the batch, so the line through 1 and `too_many` says where to
    begin.  From there it goes up or down by 1, 2, 4 ... (more for batches of thousands) until the answer lies between
    two batches that were tried, and then by halves: right also where the need is no line, if it only grows.  Infinity
    stands for a need that is not told.
    """
    first = need_bytes(1) if too_many > 1 else math.inf
    if first > limit_bytes:
        return 0
    fits, exceeds = 1, too_many
    batch = (fits + exceeds) // 2
    if math.isfinite(its_need) and its_need > first:
        batch = 1 + math.floor((limit_bytes - first) / (its_need - first) * (too_many - 1))
    step, ways = max(1, batch // 256), set[bool]()
    while exceeds - fits > 1:
        batch = min(max(batch, fits + 1), exceeds - 1)
        within = need_bytes(batch) <= limit_bytes
        fits, exceeds = (batch, exceeds) if within else (fits, batch)
        ways.add(within)
        batch = (fits + exceeds) // 2 if len(ways) == 2 else batch + (step if within else -step)
        step *= 2
    return fits
