"""Figures for TensorBoard, written at once: a full disk is an error here, where a writing thread would hang on it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.summary import scalar

from jaxstroke.errors import UserError


class Events:
    """One file of events; with `purge_step`, TensorBoard forgets what an earlier file says of that step and later."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = EventsWriter(str(folder / "events"))
        except OSError as error:
            raise self._not_written(error) from None
        if purge_step is not None:
            self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._write(Event(step=step, summary=scalar(name, value)))

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written was told when it was written
            self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        try:
            self._file.write_event(event)
            self._file.flush()
        except OSError as error:
            raise self._not_written(error) from None

    def _not_written(self, error: OSError) -> UserError:
        return UserError(f"{self._folder}: events cannot be written ({error.strerror}); free space there")
