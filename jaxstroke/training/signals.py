"""Being asked to stop while training: the step in hand is finished and the state saved before the process ends."""

from __future__ import annotations

import signal
from types import FrameType

from jaxstroke import signals
from jaxstroke.signals import INTERRUPTED, REQUEUE

__all__ = ["INTERRUPTED", "REQUEUE", "StopRequest"]


class StopRequest:
    """Catches the signals while it is entered; `code` is None until one has come. A second one ends at once."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        for number in signals.CODES:
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        signals.unsaved.clear()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def stepped(self) -> None:
        """A step is done that no checkpoint holds: from now on the process does not end without saving."""
        signals.unsaved.set()

    def _caught(self, number: int, _: FrameType | None) -> None:
        if self.code is not None:
            signals.end_at_once(number)
        self.code = signals.CODES[signal.Signals(number)]
