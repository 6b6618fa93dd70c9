"""One thing that was looked at."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

State = Literal["ok", "note", "problem"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """Attributes:
    topic: what was looked at.
    state: `problem` where something will fail or mislead, `note` where something could be better.
    told: what was found, a line.
    remedy: what to do about it; empty only where the state is ok.
    facts: the same for a program.
    """

    topic: str
    state: State
    told: str
    remedy: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
