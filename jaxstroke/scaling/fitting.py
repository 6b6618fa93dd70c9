"""The largest batch that fits, found with few compilations: each of them takes minutes."""

from __future__ import annotations

import math
from collections.abc import Callable


def largest(need_bytes: Callable[[int], float], limit_bytes: float, too_many: int, its_need: float) -> int:
    """Returns the largest batch whose need is within the limit, 0 if there is none; `too_many` is known to exceed it.

    What is needed grows nearly as a straight line with the batch.  So the line through the nearest batch that fits and
    the nearest that does not says where to look next; the answer is right also where it is no line, if the need only
    grows.  `need_bytes` may return infinity where all that is known is that it does not fit.
    """
    first = need_bytes(1) if too_many > 1 else math.inf
    if first > limit_bytes:
        return 0
    fits, its_bytes, exceeds = 1, first, too_many
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if math.isfinite(its_need) and its_need > its_bytes:
            middle = fits + math.floor((limit_bytes - its_bytes) / (its_need - its_bytes) * (exceeds - fits))
        middle = min(max(middle, fits + 1), exceeds - 1)
        need = need_bytes(middle)
        if need <= limit_bytes:
            fits, its_bytes = middle, need
        else:
            exceeds, its_need = middle, need
    return fits
