"""Event loops that end no earlier than what waits in them.

Orbax awaits all arrays of a checkpoint together and closes its loop at the first that fails.  The others are still
being written then, and each that ends calls back into a closed loop from a thread of C++, which can only print a
traceback for it.  So a loop that closes lets its tasks end first.
"""

from __future__ import annotations

import asyncio
import functools
import warnings


class Patient(asyncio.SelectorEventLoop):
    def close(self) -> None:
        if not self.is_closed() and not self.is_running():
            while tasks := asyncio.all_tasks(self):
                self.run_until_complete(asyncio.wait(tasks))
        super().close()


@functools.cache
def use() -> None:
    """For this process from now on: Orbax makes its loops itself, in threads of its own."""
    with warnings.catch_warnings():  # Python 3.14 means to take policies away, and has nothing in their place yet
        warnings.simplefilter("ignore", DeprecationWarning)

        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self) -> asyncio.AbstractEventLoop:
                return Patient()

        asyncio.set_event_loop_policy(Policy())
