"""Being asked to stop: the step in hand is finished, the state saved, and the process ends with a known code."""

from __future__ import annotations

import signal
from types import FrameType

# What the process ends with, so that a scheduler can tell them apart.
INTERRUPTED = 130  # Ctrl-C
REQUEUE = 75  # SIGTERM or SIGUSR1: saved, start me again (EX_TEMPFAIL)

_SIGNALS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: REQUEUE, signal.SIGUSR1: REQUEUE}


class StopRequest:
    """Catches the signals while it is entered; `code` is None until one has come. A second one ends at once."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _caught(self, number: int, _: FrameType | None) -> None:
        self.code = _SIGNALS[signal.Signals(number)]
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
