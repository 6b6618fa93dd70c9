"""How the doors speak: one plain line for a mistake, a bar for anything long, the next command at the end."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaxstroke.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

PHANTOM_NOTICE = "PHANTOM DATA: no real patient was used; the figures say nothing about real stroke."


def run(main: Callable[[list[str]], int | None], arguments: Sequence[str] | None = None) -> None:
    """Runs a door and ends the process: 0 done, 2 a mistake that the text explains, 130 interrupted."""
    try:
        code = main(list(sys.argv[1:] if arguments is None else arguments)) or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def say(text: str = "") -> None:
    print(text, flush=True)


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def next_command(*words: str) -> None:
    """Prints what to type next, quoted for a shell."""
    say(f"next: {shlex.join(words)}")


@contextlib.contextmanager
def bar(title: str, total: int, unit: str = "") -> Iterator[Callable[..., None]]:
    """Shows a bar with the time left; yields `advance(steps=1, note="")`.

    Where the output is no terminal (a log file of a cluster job) a plain line is printed every few seconds instead.
    """
    if sys.stdout.isatty():
        with _rich_progress() as progress:
            task = progress.add_task(title, total=total, note="")

            def advance(steps: int = 1, note: str | None = None) -> None:
                progress.update(task, advance=steps, **({} if note is None else {"note": note}))

            yield advance
        return
    state = {"done": 0, "note": "", "shown": time.monotonic(), "begun": time.monotonic()}

    def show() -> None:
        seconds = time.monotonic() - state["begun"]
        left = seconds / max(state["done"], 1) * (total - state["done"])
        tail = f", {left:.0f} s left" if 0 < state["done"] < total else f", {seconds:.0f} s"
        note = f"  {state['note']}" if state["note"] else ""
        say(f"{title}: {state['done']}/{total}{' ' + unit if unit else ''}{tail}{note}")
        state["shown"] = time.monotonic()

    def advance_plainly(steps: int = 1, note: str | None = None) -> None:
        state["done"] += steps
        if note is not None:
            state["note"] = note
        if time.monotonic() - state["shown"] > 5:
            show()

    say(f"{title}: 0/{total}{' ' + unit if unit else ''}")
    try:
        yield advance_plainly
    finally:
        show()


def _rich_progress() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        refresh_per_second=4,
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Prints a table with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    if title:
        say(title)
    for index, row in enumerate([columns, *rows]):
        cells = [
            str(cell).ljust(w) if i == 0 else str(cell).rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())
        if index == 0:
            say("  ".join("-" * width for width in widths))
