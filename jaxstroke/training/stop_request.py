"""Being asked to stop while training: the step in hand is finished and the state saved before the process ends.

The processes of a job are signalled one by one, at different moments, and must all stop after the same step.  So each
tells its code after every step, in a small collective of its own, and all learn the highest.
"""

from __future__ import annotations

import collections
import signal
import time
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxstroke import sharding
from jaxstroke.process import job, signals
from jaxstroke.process.signals import INTERRUPTED, REQUEUE

__all__ = ["INTERRUPTED", "REQUEUE", "StopRequest"]

# What was told after a step is read so many steps later, so that the host does not wait for the devices.
_READ_LATER_STEPS = 2


class StopRequest:
    """Catches the signals while it is entered; `code` is None until one has come. A second one ends at once."""

    def __init__(self, mesh: Mesh) -> None:
        self.code: int | None = None
        self._mesh = mesh
        self._highest = jax.jit(jnp.max, out_shardings=sharding.replicated(mesh))
        self._since = 0.0
        self._told: collections.deque[Any] = collections.deque()
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        for number in signals.CODES:
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        signals.unsaved.clear()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def after_step(self) -> int | None:
        """A step is done: whether to stop after it. From now on the process does not end without saving."""
        signals.unsaved.set()
        if job.count() == 1:  # there is nobody to agree with
            return self.code
        codes = {"code": np.full(jax.local_device_count(), self.code or 0, np.int32)}
        self._told.append(self._highest(sharding.to_devices(codes, self._mesh)["code"]))
        return int(np.asarray(self._told.popleft())) or None if len(self._told) > _READ_LATER_STEPS else None

    def all_saved(self) -> None:
        """Until the next step is done the process may end anywhere, in the middle of a long computation too."""
        signals.unsaved.clear()

    def agreed(self) -> int | None:
        """The same between steps, where every process asks."""
        return max(code or 0 for code in job.gather(self.code)) or None

    def _caught(self, number: int, _: FrameType | None) -> None:
        if self.code is not None and time.monotonic() - self._since > signals.ONE_WITHIN_S:
            signals.end_at_once(number)
        self._since = time.monotonic()
        self.code = signals.CODES[signal.Signals(number)]
