"""Figures for TensorBoard, written at once: a full disk is an error here, where a writing thread would hang on it.

A file of events is a row of records: length (uint64), its checksum, the event, its checksum, little-endian.  A checksum
is the CRC-32C turned by 15 bits plus a constant.  An event is a protocol buffer: here of a time, a step and either the
version of the file, a scalar under a name, or the word that a session starts at this step.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from pathlib import Path

from jaxstroke.errors import UserError

_START = b"\x08\x01"  # SessionLog(status=START)


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _table()


class Events:
    """One file of events; with `purge_step`, TensorBoard forgets what an earlier file says of that step and later."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        self._folder = folder
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("xb", buffering=0)
        except OSError as error:
            raise self._not_written(error) from None
        self._write(_bytes(3, b"brain.Event:2"))
        if purge_step is not None:
            self._write(_integer(2, purge_step) + _bytes(7, _START))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        scalar = _bytes(1, name.encode()) + b"\x15" + struct.pack("<f", value)  # field 2, four bytes
        self._write(_integer(2, step) + _bytes(5, _bytes(1, scalar)))

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written was told when it was written
            self._file.close()

    def _write(self, fields: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + fields  # field 1, eight bytes
        length = struct.pack("<Q", len(event))
        record = length + _checksum(length) + event + _checksum(event)
        try:
            while record:
                record = record[self._file.write(record) :]
        except OSError as error:
            raise self._not_written(error) from None

    def _not_written(self, error: OSError) -> UserError:
        return UserError(f"{self._folder}: events cannot be written ({error.strerror}); free space there")


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _integer(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _checksum(content: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
