"""Processes that work for another one and must not outlive it."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading


@functools.cache
def end_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone, even killed; without a parent it does nothing.

    A process of a pool would else wait for work for ever, and hold memory that it shares.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
