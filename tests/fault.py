"""What a planted fault is: a piece of a file, what takes its place, and the tests that must notice (`planted.py`)."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutant:
    """Attributes:
    file: from the root of the checkout.
    before, after: what stands there once, and the fault.
    tests: node ids below tests/, the likeliest first.
    what: the fault in words; no two share them.
    """

    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    what: str


def in_file(file: str, *faults: tuple[str, str, str, str]) -> tuple[Mutant, ...]:
    """Faults (what, before, after, tests) of one file."""
    return tuple(Mutant(file, before, after, tuple(tests.split()), what) for what, before, after, tests in faults)
