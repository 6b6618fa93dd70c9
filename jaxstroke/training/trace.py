"""A trace of some steps of a training, which TensorBoard and Perfetto open: what waited for what, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from jaxstroke import console
from jaxstroke.errors import UserError
from jaxstroke.process import job


class Trace:
    """Of `count` steps, when `start` are done; written into `folder`.

    Of a job the first process makes one: two of one machine would write into the same file.
    """

    def __init__(self, folder: Path, start: int, count: int) -> None:
        self._folder, self._start, self._end = folder, start, start + count
        self._open = False
        self._step: Any = None

    def check(self, first_step: int, last_step: int) -> None:
        """A trace that cannot be made is told; in a later turn of a job, which cannot help it, the run goes on."""
        asked = f"--profile {self._start}:{self._end - self._start}"
        if self._start < first_step:
            console.warn(f"{asked}: {first_step} steps are done already; nothing is traced")
        if self._end > last_step:
            raise UserError(f"{asked}: the run ends with step {last_step}; give an earlier start or fewer steps")

    def before(self, step: int) -> None:
        if step == self._start and job.first():
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._open = True
        if self._open:
            self._step = jax.profiler.StepTraceAnnotation("train", step_num=step)
            self._step.__enter__()

    def after(self, done: int, state: Any) -> None:
        if self._open:
            self._step.__exit__(None, None, None)
        if self._open and done == self._end:
            jax.block_until_ready(state)  # the device runs behind the host
            self.close()
            console.say(f"traced steps {self._start + 1} to {self._end}: {self._folder}")

    def close(self) -> None:
        """Also for a training that ends while it is traced."""
        if self._open:
            self._open = False
            jax.profiler.stop_trace()
