"""How steps and epochs go together."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Epochs:
    count: int
    steps: int  # in each

    @property
    def last_step(self) -> int:
        return self.count * self.steps

    def finished(self, step: int) -> int:
        """How many epochs so many steps are, the one in hand not counted."""
        return step // self.steps

    def ends_with(self, step: int) -> bool:
        return step > 0 and step % self.steps == 0
