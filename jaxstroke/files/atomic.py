"""Files and folders that are there whole or not at all.

What is being written bears a name of its own beside its place, `.NAME.1234abcd.tmp`, and its writer holds a lock on it.
The lock goes with the process, however that ends, so `sweep` can tell what a killed process left behind from what
another process is writing now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from jaxstroke.errors import UserError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to write; it takes the name `path` only when everything is written and on disk."""
    temporary = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _locked(path, lambda name: os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)  # before the lock goes: nobody can take it for a dead one's
    except OSError as error:
        # numpy tells how much of an array was written, not why it was not all
        raise UserError(f"{path}: it cannot be written: {error.strerror or f'no space left? ({error})'}") from error
    finally:
        if temporary != path:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a folder to fill; it takes the name `path`, which is free or an empty folder, when all is written."""

    def make(name: Path) -> int:
        name.mkdir()
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY)

    temporary, descriptor = path, -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        descriptor, temporary = _locked(path, make)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: it cannot be written: {error.strerror or error}") from error
    finally:
        if temporary != path:
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(descriptor)


def sweep(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left half-written in a folder; with a name, only what was to bear that name."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name) and name in (None, path.name[1 : -len(".1234abcd.tmp")]):
            with contextlib.suppress(OSError):  # gone, or somebody else's
                _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        os.close(descriptor)


def _locked(path: Path, make: Callable[[Path], int]) -> tuple[int, Path]:
    """Makes a temporary file or folder and locks it; once more where a sweep came between the two."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = make(temporary)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(temporary), os.fstat(descriptor)):
                return descriptor, temporary
        os.close(descriptor)
