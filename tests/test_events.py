"""Events for TensorBoard, read back by a reader of its own kind, and byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from jaxstroke.errors import UserError
from jaxstroke.training import events
from jaxstroke.training.events import Events


def test_the_checksum_is_crc_32c() -> None:
    """RFC 3720, B.4: 32 zero bytes have 0x8a9136aa; the mask is that of TensorFlow's record files."""
    crc = 0x8A9136AA
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert events._checksum(bytes(32)) == struct.pack("<I", masked)  # pyright: ignore[reportPrivateUsage]


def test_an_independent_reader_finds_what_was_written(tmp_path: Path) -> None:
    """Read by the classes that tensorboardX makes from TensorFlow's own description of an event."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX, the reader, is not installed")
    written = Events(tmp_path / "events", purge_step=300)
    written.add_scalar("loss/Größe", -1.25, 301)
    written.add_scalar("dice", 0.5, 2**31)
    written.close()
    (path,) = (tmp_path / "events").glob("events.out.tfevents.*")
    rest, found = path.read_bytes(), []
    while rest:
        (length,) = struct.unpack("<Q", rest[:8])
        assert rest[8:12] == events._checksum(rest[:8])  # pyright: ignore[reportPrivateUsage]
        assert rest[12 + length : 16 + length] == events._checksum(rest[12 : 12 + length])  # pyright: ignore[reportPrivateUsage]
        found.append(proto.Event.FromString(rest[12 : 12 + length]))
        rest = rest[16 + length :]
    version, start, loss, dice = found
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (300, proto.SessionLog.START)
    assert (loss.step, loss.summary.value[0].tag, loss.summary.value[0].simple_value) == (301, "loss/Größe", -1.25)
    assert (dice.step, dice.summary.value[0].simple_value) == (2**31, 0.5)
    assert all(abs(one.wall_time - path.stat().st_mtime) < 60 for one in found)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file")
    with pytest.raises(UserError, match="events cannot be written"):
        Events(tmp_path / "events")
