"""Being asked to stop: what a process ends with, and that a second signal ends it at once.

Python calls a signal's handler between two of its own instructions, so not while a program is compiled or computed,
which may take minutes.  A thread beside the main one hears of signals at once, and ends the process where the main
thread does not get to it in time and has nothing to save.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

# What the process ends with, so that a scheduler can tell them apart.
INTERRUPTED = 130  # Ctrl-C
REQUEUE = 75  # SIGTERM or SIGUSR1: nothing is lost, start me again (EX_TEMPFAIL)
CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: REQUEUE, signal.SIGUSR1: REQUEUE}
_AT_ONCE = 128  # plus the number of the signal, as shells tell it

ONE_WITHIN_S = 0.3  # a scheduler may signal a process and its parent, which hands the signal on: that is one signal
_ANEW_AFTER_S = 0.05  # within the time of one signal
GRACE_S = 10.0  # for the main thread to end by itself once it has nothing to save

unsaved = threading.Event()  # set while a training has done steps that no checkpoint holds


class Stopped(BaseException):
    """Asked to stop by SIGTERM or SIGUSR1; as KeyboardInterrupt, nothing catches it but the door."""


def code_of(stop: BaseException) -> int:
    return INTERRUPTED if isinstance(stop, KeyboardInterrupt) else REQUEUE


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Around a door: the signals raise KeyboardInterrupt or `Stopped` in it, and the second one ends the process."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _raise) for number in CODES}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    told, sys.unraisablehook = sys.unraisablehook, _not_lost(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = told
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)  # which ends the thread


def _raise(number: int, frame: FrameType | None) -> None:
    if _importing(frame):  # compiled libraries crash when they are stopped in the middle of being loaded
        _end(CODES[signal.Signals(number)], "asked to stop before the work began")
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped


def _not_lost(told: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Python drops what is raised in a destructor, or in JAX's share of garbage collection: it is raised anew."""

    def hook(found: Any) -> None:
        if not isinstance(found.exc_value, (KeyboardInterrupt, Stopped)):
            told(found)
            return
        number = signal.SIGINT if isinstance(found.exc_value, KeyboardInterrupt) else signal.SIGTERM
        anew = threading.Timer(_ANEW_AFTER_S, os.kill, (os.getpid(), number))
        anew.daemon = True  # a process that ends meanwhile does not wait to be stopped
        anew.start()

    return hook


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _watch(reader: int) -> None:
    with contextlib.suppress(EOFError):
        first, second = _next(reader), None
        _next(reader, within_s=ONE_WITHIN_S)
        all_saved_since = time.monotonic()
        while not second and time.monotonic() - all_saved_since < GRACE_S:
            second = _next(reader, within_s=1.0)
            if unsaved.is_set():
                all_saved_since = time.monotonic()
        if first and not second:
            _end(CODES[first], "asked to stop in the middle of a long computation; there was nothing to save")
        end_at_once(second or 0)
    os.close(reader)


def _next(reader: int, within_s: float | None = None) -> signal.Signals | None:
    """The next signal that asks to stop; None when time is up; EOFError when the door is left."""
    until = None if within_s is None else time.monotonic() + within_s
    while select.select([reader], [], [], None if until is None else max(0.0, until - time.monotonic()))[0]:
        byte = os.read(reader, 1)
        if not byte:
            raise EOFError
        if byte[0] in CODES:
            return signal.Signals(byte[0])
    return None


def end_at_once(number: int) -> None:
    _end(_AT_ONCE + number, "ended at once by a second signal")


def _end(code: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"\n{text}\n".encode())
    os._exit(code)
