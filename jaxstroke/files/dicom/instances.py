"""One DICOM file: what its header says of the file and of each of its frames.

pydicom and SimpleITK are an extra (`prep`), so they are imported where they are used.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import re
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxstroke.errors import UserError
from jaxstroke.files import opened

MOST_VOXELS = 2**29  # of one file
_PREAMBLE = 132
_DEFLATED = "1.2.840.10008.1.2.1.99"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
# What has rows and columns and is no image: segmentations, secondary captures of reports come without a place.
_NO_IMAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.3.10")
_OTHER_FILES = re.compile(r"\.(nii|gz|mha|json|csv|tsv|txt|md|png|jpe?g|npy|xml|html?|pdf|zip|bval|bvec)$", re.I)
_reading = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Frame:
    """One plane of pixels.

    Attributes:
      index: in its file.
      position: of its first pixel's centre, in L-P-S mm.
      axes: directions in which the column index and the row index grow, L-P-S, six numbers.
      pixel_mm: between rows, between columns.
      slice_mm: what the file says of the step to the next slice; 0 where it says nothing.
      scale: (slope, intercept) from stored values to the series' units.
      kind: the image type, ("DERIVED", "PRIMARY", "DIFFUSION", "ADC").
      b: the b-value in s/mm2, or None.
      direction: of the diffusion gradient; "isotropic" for a trace, "" where there is none or nothing is said.
      echo: time or number of the echo, "" where nothing is said.
    """

    index: int
    position: tuple[float, ...]
    axes: tuple[float, ...]
    pixel_mm: tuple[float, ...]
    slice_mm: float
    scale: tuple[float, float]
    kind: tuple[str, ...]
    b: float | None
    direction: str
    echo: str


@dataclasses.dataclass(frozen=True)
class Instance:
    """One file with its frames; `cut_short` says that it is shorter than the pixels it claims."""

    path: Path
    uid: str
    study: str
    series: str
    patient: str
    frame_of_reference: str
    number: int
    description: str
    modality: str
    shape: tuple[int, int]
    stored_bits: int
    signed: bool
    packed: bool
    cut_short: bool
    frames: tuple[Frame, ...]


def is_dicom(path: Path) -> bool:
    """Whether a regular file begins as DICOM files do."""
    try:
        if _OTHER_FILES.search(path.name) or not path.is_file():
            return False
        with opened.regular(path) as file:
            return file.read(_PREAMBLE)[128:] == b"DICM"
    except (OSError, UserError):
        return False


def pydicom_for(path: Path) -> types.ModuleType:
    """pydicom, or the line that says what to install."""
    if any(importlib.util.find_spec(name) is None for name in ("pydicom", "SimpleITK")):
        raise UserError(f"{path}: this is DICOM, which needs an extra to be read: pip install 'jaxstroke[prep]'")
    import pydicom
    from pydicom import config

    # Values that break a rule of the standard are common and harmless; those that are used are checked here.
    config.settings.reading_validation_mode = config.IGNORE
    return pydicom


def read(path: Path) -> Instance | None:
    """What a file says; None for what is DICOM but no image in grey values with a place in the patient.

    Anything wrong with it is a `UserError` that names the file.
    """
    state = path.stat()
    return _read(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=2**15)
def _read(path: Path, size: int, _changed_ns: int) -> Instance | None:
    pydicom = pydicom_for(path)
    # The filters of warnings belong to the whole process, so one thread at a time.
    with _reading, opened.regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            syntax = str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", _NATIVE[0]))
            if syntax == _DEFLATED:
                raise UserError(f"{path}: all of it is deflated, which is not read; export it in another form")
            header = pydicom.dcmread(file, stop_before_pixels=True)
            return _instance(path, size - file.tell(), syntax, header)
        except UserError:
            raise
        except Exception as error:  # whatever its parser stumbles over
            what = " ".join(str(error).split())[:80]
            raise UserError(f"{path}: its DICOM header is broken ({type(error).__name__}: {what})") from None


def _instance(path: Path, bytes_left: int, syntax: str, header: Any) -> Instance | None:
    """`bytes_left`: behind the header."""
    if "SOPClassUID" not in header or ("Rows" not in header and "Image Storage" in header.SOPClassUID.name):
        raise ValueError("it ends too early")
    if header.get("SOPClassUID") in _NO_IMAGE or "Rows" not in header or int(header.get("SamplesPerPixel", 1)) != 1:
        return None
    rows, columns = int(header.Rows), int(header.Columns)
    count = int(header.get("NumberOfFrames") or 1)
    allocated, bits = int(header.BitsAllocated), int(header.BitsStored)
    if min(rows, columns, count) < 1 or rows * columns * count > MOST_VOXELS:
        raise UserError(f"{path}: its header claims {rows} x {columns} x {count} voxels; 1 to {MOST_VOXELS:,} are read")
    if allocated not in (8, 16, 32) or not 1 <= bits <= allocated:
        raise UserError(f"{path}: its voxels have {bits} of {allocated} bits; 8, 16 or 32 are read")
    frames = tuple(_frames(header, count))
    if not frames:
        return None
    _check_numbers(path, frames)
    packed = syntax not in _NATIVE
    return Instance(
        path,
        str(header.get("SOPInstanceUID", path.name)),
        str(header.get("StudyInstanceUID", "")),
        str(header.get("SeriesInstanceUID", "")),
        str(header.get("PatientID") or ""),
        str(header.get("FrameOfReferenceUID") or ""),
        int(header.get("SeriesNumber") or 0),
        _description(header),
        str(header.get("Modality", "")),
        (rows, columns),
        bits,
        bool(header.get("PixelRepresentation", 0)),
        packed,
        not packed and bytes_left < rows * columns * count * allocated // 8,
        frames,
    )


def _check_numbers(path: Path, frames: tuple[Frame, ...]) -> None:
    for frame in frames:
        numbers = (*frame.position, *frame.axes, *frame.pixel_mm, frame.slice_mm, *frame.scale, frame.b or 0.0)
        if not all(math.isfinite(number) for number in numbers) or min(frame.pixel_mm) <= 0 or frame.scale[0] == 0:
            raise UserError(f"{path}: its header puts its pixels nowhere (position, directions, spacing or slope)")
        lengths = math.hypot(*frame.axes[:3]), math.hypot(*frame.axes[3:])
        across = sum(one * other for one, other in zip(frame.axes[:3], frame.axes[3:], strict=True))
        if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(across)) > 1e-2:
            raise UserError(f"{path}: the directions of its rows and columns are not at right angles")


def _description(header: Any) -> str:
    words = (header.get(name) for name in ("SeriesDescription", "ProtocolName", "SequenceName"))
    return " ".join(str(next(filter(None, words), "")).split())[:80]


# --- frames ----------------------------------------------------------------------------------------------------------


def _frames(header: Any, count: int) -> Iterator[Frame]:
    """Those that have a place in the patient; of a file with several, each has groups of fields of its own."""
    own = header.get("PerFrameFunctionalGroupsSequence")
    if own is None:
        if count == 1 and "ImagePositionPatient" in header and "ImageOrientationPatient" in header:
            yield _frame(0, _Fields([header]))
        return
    if len(own) != count:
        raise ValueError(f"{count} frames, {len(own)} descriptions of them")
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    for index, groups in enumerate(own):
        fields = _Fields([*_inner(groups), *(one for group in shared for one in _inner(group)), header])
        if fields.get("ImagePositionPatient") is not None and fields.get("ImageOrientationPatient") is not None:
            yield _frame(index, fields)


def _inner(groups: Any) -> Iterator[Any]:
    """The items of a frame's groups of fields, and what lies in them."""
    for element in groups:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _inner(item)


class _Fields:
    """The first data set that has a field tells it: the frame's own, what all share, the file's."""

    def __init__(self, places: list[Any]) -> None:
        self._places = places

    def get(self, name: str | tuple[int, int]) -> Any:
        for place in self._places:
            if name in place and (value := place[name].value) not in (None, ""):
                return value
        return None

    def numbers(self, name: str | tuple[int, int], count: int) -> tuple[float, ...] | None:
        value = self.get(name)
        if value is None:
            return None
        values = tuple(float(one) for one in ([value] if isinstance(value, str | int | float) else value))
        if len(values) != count:
            raise ValueError(f"{name} has {len(values)} numbers, not {count}")
        return values


def _frame(index: int, fields: _Fields) -> Frame:
    b, direction = _diffusion(fields)
    kind = fields.get("FrameType") or fields.get("ImageType") or ()
    echo = fields.get("EffectiveEchoTime") or fields.get("EchoNumbers") or ""
    steps = fields.numbers("SpacingBetweenSlices", 1) or fields.numbers("SliceThickness", 1) or (0.0,)
    return Frame(
        index,
        _needed(fields, "ImagePositionPatient", 3),
        _needed(fields, "ImageOrientationPatient", 6),
        _needed(fields, "PixelSpacing", 2),
        abs(steps[0]),
        _scale(fields),
        (kind,) if isinstance(kind, str) else tuple(str(word).upper() for word in kind),
        b,
        direction,
        str(echo),
    )


def _needed(fields: _Fields, name: str, count: int) -> tuple[float, ...]:
    numbers = fields.numbers(name, count)
    if numbers is None:
        raise ValueError(f"there is no {name}")
    return numbers


def _scale(fields: _Fields) -> tuple[float, float]:
    slope, intercept = fields.numbers("RescaleSlope", 1), fields.numbers("RescaleIntercept", 1)
    if slope is None:
        slope, intercept = fields.numbers("RealWorldValueSlope", 1), fields.numbers("RealWorldValueIntercept", 1)
    return (slope or (1.0,))[0], (intercept or (0.0,))[0]


# --- diffusion -------------------------------------------------------------------------------------------------------

_SIEMENS_B, _SIEMENS_DIRECTIONALITY = (0x0019, 0x100C), (0x0019, 0x100D)
_SIEMENS_DIRECTION, _PHILIPS_B = (0x0019, 0x100E), (0x2001, 0x1003)
_PHILIPS_DIRECTION, _GE_B = (0x2001, 0x1004), (0x0043, 0x1039)
_GE_ADDED = 1_000_000_000


def _diffusion(fields: _Fields) -> tuple[float | None, str]:
    """The b-value and the direction of the gradient, from the standard's fields, else from the makers' own."""
    b = _b_value(fields)
    word = (
        fields.get("DiffusionDirectionality") or fields.get(_SIEMENS_DIRECTIONALITY) or fields.get(_PHILIPS_DIRECTION)
    )
    word = {"I": "ISOTROPIC"}.get(_text(word), _text(word))
    sequence = str(fields.get("SequenceName") or "")
    if "ISOTROPIC" in word or re.search(r"b\d+t$", sequence):
        return b, "isotropic"
    direction = fields.get("DiffusionGradientOrientation") or fields.get(_SIEMENS_DIRECTION)
    if b and direction is not None and not isinstance(direction, str | bytes):
        return b, ",".join(f"{float(one):.2f}" for one in direction)
    told = re.search(r"b\d+(#\d+)$", sequence)
    return b, told[1] if told else ""


def _b_value(fields: _Fields) -> float | None:
    for place in ("DiffusionBValue", _SIEMENS_B, _PHILIPS_B, _GE_B):
        value = fields.get(place)
        if value is None:
            continue
        found = re.match(r"\d+(\.\d+)?", _text(value if isinstance(value, str | bytes | int | float) else value[0]))
        if found:
            return float(found[0]) % _GE_ADDED
    told = re.search(r"b(\d+)(t|#\d+)?$", str(fields.get("SequenceName") or ""))
    return float(told[1]) if told else None


def _text(value: Any) -> str:
    """Of a private field, which comes as bytes where the file does not say what it holds."""
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value or "0")).strip(" \0")
