"""How a door runs and ends: a mistake is one plain line, and what asked the process to stop is told by its code."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from jaxstroke.errors import UserError
from jaxstroke.process import signals

# JAX makes millions of small objects while it traces a network, and few of them are garbage in circles: collected
# every 700 of them, as Python does unasked, collecting is a fifth to a third of the tracing (docs/performance.md).
COLLECT_EVERY = 20_000


def run(main: Callable[[list[str]], int | None], arguments: Sequence[str] | None = None) -> None:
    """Runs a door and ends the process: 0 done, 2 a mistake that the text explains, 130 or 75 asked to stop."""
    gc.set_threshold(COLLECT_EVERY)
    try:
        with signals.watched():
            code = main(list(sys.argv[1:] if arguments is None else arguments)) or 0
            sys.stdout.flush()
    except UserError as error:
        with contextlib.suppress(OSError):  # nobody reads it, or the disk of the log is full: the code tells it still
            print(f"error: {error}", file=sys.stderr, flush=True)
        code = 2
    except KeyboardInterrupt:
        _leave("interrupted", signals.INTERRUPTED)
    except signals.Stopped:
        _leave("asked to stop: nothing is half-written; give the same command again", signals.REQUEUE)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _leave(text: str, code: int) -> NoReturn:
    """Ends without taking the interpreter down, at which libraries stopped in the middle of an import crash."""
    print(text, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)
