"""How the doors speak: one plain line for a mistake, a bar for anything long, the next command at the end."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from jaxstroke import command

if TYPE_CHECKING:
    from rich.progress import Progress

_PLAIN_EVERY_S = 5.0
_BAR_COLUMNS = 72  # below, a bar would push the figures beside it out of sight
PHANTOM_NOTICE = "PHANTOM DATA: no real patient was used; the figures say nothing about real stroke."
TRAINED_ON_PHANTOMS = "THIS NETWORK WAS TRAINED ON PHANTOMS: its answers on real studies mean nothing."


_muted = False


def mute() -> None:
    """For a process of a job that is not the first: what all would say is said once. Errors are still told."""
    global _muted
    _muted = True


def say(text: str = "") -> None:
    if not _muted:
        _print(text, sys.stdout)


def warn(text: str) -> None:
    if not _muted:
        _print(f"warning: {text}", sys.stderr)


def error(text: str) -> None:
    """Where the work goes on to its end and still is not whole; what ends it at once is a `UserError`."""
    _print(f"error: {text}", sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    """Work goes on when whoever read its output went away (`| head`), or its log's disk is full: nobody said stop."""
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # what is still in the stream's memory goes there too
        os.close(nowhere)
        if stream is sys.stdout:
            gone = isinstance(error, BrokenPipeError)
            why = "nobody reads this output any more" if gone else f"this output cannot be written ({error.strerror})"
            warn(f"{why}; the work goes on without it")


def next_command(door: str, *words: str) -> None:
    """Prints what to type next, quoted for a shell, in the way that this program was called."""
    say(f"next: {shlex.join([*command.words(door), *words])}")


@contextlib.contextmanager
def bar(title: str, total: int, unit: str = "") -> Iterator[Callable[..., None]]:
    """Shows a bar with the time left; yields `advance(steps=1, note="")`.

    Where the output is no terminal (a log file of a cluster job) a plain line is printed every few seconds instead.
    """
    if sys.stdout.isatty() and not _muted:
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        progress, words = _rich_progress(), Text(no_wrap=True, overflow="ellipsis")
        task = progress.add_task(title, total=total)

        def advance(steps: int = 1, note: str | None = None) -> None:
            progress.update(task, advance=steps)
            if note is not None:
                words.plain = note

        with Live(Group(progress, words), refresh_per_second=4):  # the note has a line of its own: terminals are narrow
            yield advance
        return
    plain = _PlainBar(title, total, unit)
    plain.show()
    try:
        yield plain.advance
    finally:
        plain.show()


class _PlainBar:
    """The bar of a log file: a line every few seconds."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, f" {unit}" if unit else ""
        self._done, self._note = 0, ""
        self._begun = self._shown = time.monotonic()
        self._said = ""

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        self._done += steps
        self._note = self._note if note is None else note
        if time.monotonic() - self._shown > _PLAIN_EVERY_S:
            self.show()

    def show(self) -> None:
        self._shown = time.monotonic()
        seconds = self._shown - self._begun
        left = seconds / max(self._done, 1) * (self._total - self._done)
        time_told = f", {left:.0f} s left" if 0 < self._done < self._total else f", {seconds:.0f} s"
        line = f"{self._title}: {self._done}/{self._total}{self._unit}"
        if line != self._said:
            say(line + (time_told if self._done else "") + (f"  {self._note}" if self._note else ""))
        self._said = line


def _rich_progress() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    if _width() < _BAR_COLUMNS:
        return Progress(TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


def _width() -> int:
    """Of the terminal; whatever is no terminal takes lines of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Prints a table with aligned columns: the first to the left, the others to the right.

    Where the terminal is too narrow for it, each row becomes a few lines: its first cell, then a line for each other.
    """
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    if title:
        say(title)
    if sum(widths) + 2 * (len(widths) - 1) > _width():
        _rows_as_lines(columns, rows)
        return
    for index, row in enumerate([columns, *rows]):
        cells = [
            str(cell).ljust(w) if i == 0 else str(cell).rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())
        if index == 0:
            say("  ".join("-" * width for width in widths))


def _rows_as_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    width = max((len(str(heading)) for heading in columns[1:]), default=0)
    for first, *others in rows:
        say(f"{columns[0]} {first}".strip())
        for heading, cell in zip(columns[1:], others, strict=True):
            say(f"  {heading:{width}}  {cell}".rstrip())
