"""From what a program needs to how long it takes at least, and to how well that scales.

    compute_s = max(FLOPs / peak, traffic / memory bandwidth)       one chip by itself, nothing in its way
    sending_s = bytes that a chip sends / the bandwidth of its links
    efficiency = compute_s / (compute_s + sending_s)                 nothing is sent while it computes
               = compute_s / max(compute_s, sending_s)               everything is

The time of one chip is a lower bound, so both efficiencies are lower than those of a step that takes longer to compute.
The time that a message takes before its first byte arrives is not counted.
"""

from __future__ import annotations

import dataclasses

from jaxstroke.compilation.targets import Target


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one step at best, by what; efficiencies are shares of 1."""

    compute_s: float
    bound_by: str  # "FLOPs" or "memory"
    sending_s: float
    efficiency_without_overlap: float
    efficiency_with_overlap: float


def roofline(target: Target, *, flops: float, traffic_bytes: float, sent_bytes: float) -> Roofline | None:
    """Returns None where the peak of the target is not known."""
    chip, sending = target.chip, target.sending_bandwidth
    if chip is None or sending is None:
        return None
    arithmetic_s, memory_s = flops / chip.flops, traffic_bytes / chip.memory_bandwidth
    compute_s, sending_s = max(arithmetic_s, memory_s), sent_bytes / sending
    without, overlapped = efficiencies(compute_s, sending_s)
    return Roofline(compute_s, "FLOPs" if arithmetic_s >= memory_s else "memory", sending_s, without, overlapped)


def efficiencies(compute_s: float, sending_s: float) -> tuple[float, float]:
    """The share of its time that a chip computes: without and with full overlap of sending and computing.

    >>> efficiencies(3.0, 1.0)
    (0.75, 1.0)
    """
    return compute_s / (compute_s + sending_s), compute_s / max(compute_s, sending_s)


def ring_all_reduce_s(payload_bytes: float, devices: int, bandwidth: float) -> float:
    """Seconds of an all-reduce of so many bytes round a ring, at so many bytes a second in one direction.

    Each of n devices sends a share of 1 / n at a time, n - 1 times to sum and n - 1 times to spread the sums.

    >>> ring_all_reduce_s(100e6, 8, 50e9)
    0.0035
    """
    return 2 * (devices - 1) / devices * payload_bytes / bandwidth
