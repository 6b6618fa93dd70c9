"""The volumes in a folder of DICOM files: which frames belong together, in which order, and where they lie.

A volume is named by a path: the file of its first slice, or where one file holds several volumes, that file and the
volume's word behind it (`study/IM0001/b1000`).  A folder that holds one volume names it too.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke.errors import UserError
from jaxstroke.files.dicom.instances import Frame, Instance, is_dicom, pydicom_for, read

_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_EVEN = 0.02  # how much of a step slices may lie off, as positions are rounded in the files
_SAME_PLACE_MM = 1e-3


@dataclasses.dataclass(frozen=True)
class Slice:
    instance: Instance
    frame: Frame


@dataclasses.dataclass(frozen=True, eq=False)
class Volume:
    """Attributes:
    path: what it is named by.
    slices: in the order of their places.
    label: what a person knows it by: number and description of its series, b-value, kind.
    shape: (X, Y, Z): columns, rows, slices.
    affine: (4, 4) voxel indices to R-A-S mm.
    fault: why its slices make no volume, or empty.
    """

    path: Path
    slices: tuple[Slice, ...]
    label: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    fault: str

    @property
    def first(self) -> Slice:
        return self.slices[0]

    @property
    def files(self) -> list[Path]:
        """Every file it is read from, once."""
        return list(dict.fromkeys(one.instance.path for one in self.slices))


def find(path: Path) -> Volume | None:
    """The volume that a path names; None for what is no DICOM."""
    if path.is_dir():
        found = volumes_in(path)
        if len(found) > 1:
            listed = "; ".join(f"{one.path} ({one.label})" for one in found[:6])
            raise UserError(f"{path}: it holds {len(found)} DICOM volumes; name one: {listed}")
        return found[0] if found else None
    file = path if path.is_file() else path.parent
    if not is_dicom(file):
        return None
    found = [one for one in volumes_in(file.parent) if file in one.files]
    if file is path and len(found) == 1:
        return found[0]
    named = next((one for one in found if one.path == path), None)
    if named is None:
        listed = ", ".join(str(one.path) for one in found) or "none with a place in the patient"
        raise UserError(f"{path}: there is no such DICOM volume; this file has: {listed}")
    return named


def volumes_in(folder: Path) -> list[Volume]:
    """Every volume whose files lie in this very folder, in the order of series; a broken file is a `UserError`."""
    return volumes_of(map(read, files_in(folder)))


def volumes_of(instances: Iterable[Instance | None]) -> list[Volume]:
    return list(_volumes_of(tuple(filter(None, instances))))


def files_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file())
    return [path for path in (folder / name for name in names) if is_dicom(path)]


@functools.lru_cache(maxsize=64)
def _volumes_of(instances: tuple[Instance, ...]) -> tuple[Volume, ...]:
    groups: dict[tuple[object, ...], list[Slice]] = collections.defaultdict(list)
    for instance in instances:
        for frame in instance.frames:
            groups[_belongs(instance, frame)].append(Slice(instance, frame))
    in_file = collections.Counter(path for slices in groups.values() for path in {one.instance.path for one in slices})
    ordered = sorted(groups.values(), key=lambda slices: (slices[0].instance.number, slices[0].frame.b or 0.0))
    taken: set[Path] = set()
    found = [_volume(slices, in_file, taken) for slices in ordered]
    labels = collections.Counter(one.label for one in found)
    return tuple(
        dataclasses.replace(one, label=_finer(one.label, one.first)) if labels[one.label] > 1 else one for one in found
    )


def _belongs(instance: Instance, frame: Frame) -> tuple[object, ...]:
    """What frames of one volume have in common."""
    axes = tuple(round(one, 3) + 0.0 for one in frame.axes)
    spacing = tuple(round(one, 4) for one in frame.pixel_mm)
    apart = (frame.kind, frame.b, frame.direction, frame.echo)
    return instance.study, instance.series, instance.shape, axes, spacing, *apart


def _volume(slices: list[Slice], in_file: collections.Counter[Path], taken: set[Path]) -> Volume:
    along = np.cross(slices[0].frame.axes[:3], slices[0].frame.axes[3:])
    slices = sorted(
        slices, key=lambda one: (float(np.dot(one.frame.position, along)), one.instance.path, one.frame.index)
    )
    first, count = slices[0], len(slices)
    path = first.instance.path
    if in_file[path] > 1:
        word = _word(first.frame)
        path = next(
            place
            for number in itertools.count(1)
            if (place := path / (word if number == 1 else f"{word}-{number}")) not in taken
        )
    taken.add(path)
    rows, columns = first.instance.shape
    step, fault = _step(slices, along)
    affine = np.eye(4)
    between_rows, between_columns = first.frame.pixel_mm
    affine[:3, 0] = np.multiply(first.frame.axes[:3], between_columns)
    affine[:3, 1] = np.multiply(first.frame.axes[3:], between_rows)
    affine[:3, 2], affine[:3, 3] = step, first.frame.position
    affine[:3] = _TO_RAS @ affine[:3]
    short = next((one.instance.path for one in slices if one.instance.cut_short), None)
    fault = f"{short.name} is cut short; get it anew" if short else fault
    if "MOSAIC" in first.frame.kind:
        fault = "each of its pictures is a mosaic of slices, which is not read; convert it to NIfTI first (dcm2niix)"
    return Volume(path, tuple(slices), _label(first), (columns, rows, count), affine, fault)


def _word(frame: Frame) -> str:
    word = "" if frame.b is None else f"b{frame.b:g}"
    return word or (frame.kind[-1].lower() if frame.kind else "volume")


def _label(one: Slice) -> str:
    b = "" if one.frame.b is None else f" b{one.frame.b:g}"
    return f"{one.instance.number} {one.instance.description}{b}"


def _finer(label: str, one: Slice) -> str:
    """Of a volume that shares its label: also its kind, the direction of its gradient and its echo."""
    words = (*one.frame.kind[2:], one.frame.direction, one.frame.echo)
    return " ".join([label, *(word.lower() for word in words if word not in ("", "NONE"))])


def _step(slices: Sequence[Slice], along: np.ndarray) -> tuple[np.ndarray, str]:
    """From each slice to the next, in L-P-S mm, and why they do not follow one another evenly."""
    places = np.array([one.frame.position for one in slices])
    if len(slices) == 1:
        return along * (slices[0].frame.slice_mm or 1.0), ""
    step = (places[-1] - places[0]) / (len(slices) - 1)
    heights = places @ along
    gaps = np.diff(heights)
    if gaps.min() < _SAME_PLACE_MM:
        twice = int((gaps < _SAME_PLACE_MM).sum())
        many = len(slices) - twice
        text = f"{many} places have {len(slices)} slices, which nothing tells apart; keep one of each"
        return along * (slices[0].frame.slice_mm or 1.0), text
    off = np.abs(places - (places[0] + np.arange(len(slices))[:, None] * step)).max()
    if off > _EVEN * np.linalg.norm(step):
        usual = float(np.median(gaps))
        where = int(np.abs(gaps - usual).argmax())
        between = f"between {slices[where].instance.path.name} and {slices[where + 1].instance.path.name}"
        return step, f"its slices lie {usual:.4g} mm apart, but {gaps[where]:.4g} mm {between}; one is missing or moved"
    return step, ""


# --- pixels ----------------------------------------------------------------------------------------------------------


def fill(array: np.ndarray, volume: Volume) -> None:
    """Reads the pixels, one frame at a time, into an array (X, Y, Z): slope * stored + intercept."""
    for path, places in itertools.groupby(enumerate(volume.slices), key=lambda place: place[1].instance.path):
        places = sorted(places, key=lambda place: place[1].frame.index)
        instance = places[0][1].instance
        try:
            planes = _planes(instance, [one.frame.index for _, one in places])
            for (number, one), plane in zip(places, planes, strict=True):
                slope, intercept = one.frame.scale
                array[:, :, number] = (_meant(plane, instance) * slope + intercept).T
        except Exception as error:  # whatever its decoders stumble over
            what = " ".join(str(error).split())[:120]
            raise UserError(f"{path}: its pixels cannot be read ({what}); get the file anew") from None


def _meant(stored: np.ndarray, instance: Instance) -> np.ndarray:
    """Values of the bits that count, with their sign: overlays may lie in the bits above."""
    values = stored.astype(np.int64) & (2**instance.stored_bits - 1)
    sign = 2 ** (instance.stored_bits - 1) if instance.signed else 0
    return ((values ^ sign) - sign).astype(np.float64)


def _planes(instance: Instance, indices: list[int]) -> Iterator[np.ndarray]:
    pydicom = pydicom_for(instance.path)
    if not instance.packed:
        from pydicom.pixels.utils import iter_pixels

        yield from iter_pixels(instance.path, indices=indices, raw=True)
        return
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "pixels.dcm"
        _pixels_alone(pydicom, instance, plain)
        frames = sitk.GetArrayFromImage(sitk.ReadImage(str(plain), imageIO="GDCMImageIO"))
    if frames.shape[-2:] != instance.shape or frames.shape[0] <= max(indices):
        raise ValueError(f"it unpacks to {frames.shape}")
    yield from frames[indices]


def _pixels_alone(pydicom: Any, instance: Instance, place: Path) -> None:
    """A copy that says nothing but how its pixels are stored, so that they are unpacked and not scaled."""
    whole = pydicom.dcmread(instance.path)
    plain = pydicom.Dataset()
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"):
        if name in whole:
            plain[name] = whole[name]
    plain.SamplesPerPixel, plain.PhotometricInterpretation = 1, "MONOCHROME2"
    several = int(whole.get("NumberOfFrames") or 1) > 1
    plain.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3" if several else "1.2.840.10008.5.1.4.1.1.7"
    plain.SOPInstanceUID = pydicom.uid.generate_uid()
    plain["PixelData"] = whole["PixelData"]
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = whole.file_meta.TransferSyntaxUID
    plain.save_as(place, enforce_file_format=True)
