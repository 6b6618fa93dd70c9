"""Opening files that are not trusted: only regular ones, and what an archive says of its length before unpacking."""

from __future__ import annotations

import contextlib
import errno
import gzip
import mmap
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from jaxstroke.errors import UserError

# Deflate cannot pack tighter than this, whatever it packs.
_TIGHTEST = 1032
_LONGEST_TEXT = 2**25
_MEMBER = b"\x1f\x8b\x08"  # what every member of a gzip file begins with


@contextlib.contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file; a pipe or a device, which may never answer, is a `UserError`, as is any other."""
    if "\0" in str(path):
        raise UserError(f"{str(path)!r}: no file can have this name")
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: it cannot be read: {error.strerror or error}") from None


def _without_waiting(path: str, flags: int) -> int:
    """A descriptor of a regular file; opening a pipe would wait for whoever writes to it."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"
    raise OSError(errno.EINVAL, f"this is {kind}, not a file")


def read_text(path: Path) -> str:
    """The text of a small file: a table, a description."""
    with regular(path) as file:
        content = file.read(_LONGEST_TEXT + 1)
    if len(content) > _LONGEST_TEXT:
        raise UserError(f"{path}: it is longer than {_LONGEST_TEXT:,} bytes; is this the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: it is not text in UTF-8 ({error.reason} at byte {error.start})") from None


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[tuple[BinaryIO, Packing]]:
    """Opens a file, unpacking it where its content is gzip, and turns what can go wrong into one plain line."""
    with regular(path) as file:
        packing = Packing(path, file)
        try:
            with gzip.GzipFile(fileobj=file) if packing.packed else contextlib.nullcontext(file) as stream:
                yield cast(BinaryIO, stream), packing
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: it is damaged or cut short ({error}); get the file anew") from None


class Packing:
    """What a file and its archive say of the length of the content, before any of it is unpacked."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self.bytes_on_disk = os.fstat(file.fileno()).st_size
        self.packed = file.read(2) == _MEMBER[:2]
        file.seek(0)

    def too_short_for(self, needed: int) -> bool:
        """Whether the content cannot be `needed` bytes long."""
        if not self.packed:
            return self.bytes_on_disk < needed
        if self.cannot_hold(needed):
            return True
        return self._told() < needed % 2**32 and not self._several_members()

    def cannot_hold(self, needed: int) -> bool:
        """Whether no way of packing could put so many bytes into the file."""
        return needed > _TIGHTEST * self.bytes_on_disk

    def ratio(self, needed: int) -> float:
        """How many bytes of content each byte on disk stands for."""
        return needed / max(1, self.bytes_on_disk)

    def _told(self) -> int:
        """The length that the archive ends with, modulo 2^32; of several members it is the last one's."""
        here = self._file.tell()
        self._file.seek(max(0, self.bytes_on_disk - 4))
        told = int.from_bytes(self._file.read(4), "little")
        self._file.seek(here)
        return told

    def _several_members(self) -> bool:
        """Whether another member may begin further on; chance alone writes its mark once in 16 MB."""
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_MEMBER, 1) > 0
