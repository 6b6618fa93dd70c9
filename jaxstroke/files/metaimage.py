"""MetaImage in one file (`.mha`): the form in which challenges hand studies to a container and take masks back.

A text of `Key = value` lines, then the voxels, plain or packed by zlib.  ITK's axes point left, back and up (L-P-S),
NIfTI's right, front and up, so the first two coordinates change their sign.
"""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxstroke.errors import UserError

STARTS = (b"Obje", b"NDim")  # ObjectType, NDims
_LONGEST_TEXT = 2**16
_KINDS = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_WORDS = {np.dtype(kind): word for word, kind in _KINDS.items() if "LONG" not in word}
_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclasses.dataclass(frozen=True, eq=False)
class Description:
    """Attributes: shape in the file's order; affine to R-A-S mm; spacing_mm; kind of a voxel; offset of the first;
    packed, whether zlib did it."""

    shape: tuple[int, ...]
    affine: np.ndarray
    spacing_mm: tuple[float, ...]
    kind: np.dtype
    offset: int
    packed: bool


def describe(path: Path, stream: BinaryIO) -> Description:
    """What the text at the beginning says; `stream` stands at its first byte."""
    words, offset = _words(path, stream)
    try:
        dims = {"3": 3, "4": 4}[words["NDims"]]
        shape = tuple(int(one) for one in words["DimSize"].split())
        spacing = _numbers(words, ("ElementSpacing", "ElementSize"), dims, [1.0] * dims)
        origin = _numbers(words, ("Offset", "Position", "Origin"), dims, [0.0] * dims)
        axes = _numbers(words, ("TransformMatrix", "Rotation", "Orientation"), dims**2, list(np.eye(dims).ravel()))
        order = ">" if _is_true(words, "BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<"
        kind = np.dtype(_KINDS[words["ElementType"]]).newbyteorder(order)
        sound = words["ElementDataFile"] == "LOCAL" and words.get("ElementNumberOfChannels", "1") == "1"
        sound = sound and len(shape) == dims
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: its MetaImage header is broken ({str(error)[:80]})") from None
    if not sound:
        raise UserError(f"{path}: it is no MetaImage of one volume with its voxels in the same file (.mha)")
    directions = np.reshape(axes, (dims, dims)).T[:3, :3]  # the text lists each axis's direction in turn
    affine = np.eye(4)
    with np.errstate(all="ignore"):
        affine[:3, :3] = _TO_RAS @ directions @ np.diag(spacing[:3])
        affine[:3, 3] = _TO_RAS @ origin[:3]
    return Description(shape, affine, tuple(spacing[:3]), kind, offset, _is_true(words, "CompressedData"))


def _words(path: Path, stream: BinaryIO) -> tuple[dict[str, str], int]:
    words: dict[str, str] = {}
    offset = 0
    while "ElementDataFile" not in words:
        line = stream.readline(_LONGEST_TEXT - offset)
        offset += len(line)
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals or not line.endswith(b"\n"):
            raise UserError(f"{path}: its MetaImage header is broken or cut short")
        words[key.strip()] = value.strip()
    return words, offset


def _numbers(words: dict[str, str], keys: tuple[str, ...], count: int, default: list[float]) -> list[float]:
    text = next((words[key] for key in keys if key in words), None)
    numbers = default if text is None else [float(one) for one in text.split()]
    if len(numbers) != count:
        raise ValueError(f"{keys[0]} has {len(numbers)} numbers, not {count}")
    return numbers


def _is_true(words: dict[str, str], *keys: str) -> bool:
    return any(words.get(key, "").lower() == "true" for key in keys)


class Inflated:
    """Packed voxels as a stream that is read piece by piece."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._inflate = stream, zlib.decompressobj()

    def read(self, count: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < count and not self._inflate.eof:
            content = self._inflate.unconsumed_tail or self._stream.read(2**16)
            if not content:
                break
            pieces += self._inflate.decompress(content, count - len(pieces))
        return bytes(pieces)


def head_of(shape: tuple[int, ...], kind: np.dtype, affine: np.ndarray, *, packed_bytes: int) -> bytes:
    """The text before packed voxels of a (X, Y, Z) volume at R-A-S `affine`."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = _TO_RAS @ affine[:3, :3] / spacing
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(packed_bytes),
        "TransformMatrix": _text(directions.T.ravel()),
        "Offset": _text(_TO_RAS @ affine[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _text(spacing),
        "DimSize": " ".join(map(str, shape)),
        "ElementType": _WORDS[np.dtype(kind)],
        "ElementDataFile": "LOCAL",
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items()).encode("ascii")


def _text(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.17g}" for number in np.asarray(numbers) + 0.0)
