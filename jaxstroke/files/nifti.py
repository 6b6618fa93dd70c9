"""NIfTI files, and MetaImages and DICOM beside them: read with a guard, written atomically.

A file is not trusted.  Its header is read first and bounds what is read after it; voxels are unpacked piece by
piece straight into the float32 result, so neither a header that claims 2000^3 voxels nor a compressed file that
unpacks to far more than it should takes memory before it is refused.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from jaxstroke.errors import UserError
from jaxstroke.files import metaimage, opened, sha256
from jaxstroke.files.atomic import whole_file
from jaxstroke.files.dicom import volumes as dicom

# Twice a perfusion series of 512 x 512 x 16 voxels and 64 time points: 2 GiB as float32.
MAX_VOXELS = 2**29
# Header extensions lie between the header and the voxels; real ones are some kilobytes.
_MAX_HEADER_BYTES = 2**24
# What may follow the voxels (padding of some writers) before a file counts as a different thing from its header.
_MAX_TAIL_BYTES = 2**16
_PIECE_VOXELS = 2**18
# More voxels than this (384 MiB as float32) must not come from an archive that is packed tighter than any image can be.
_LARGE = 96 * 2**20
_HARDLY_ANYTHING = 200.0

_HEADERS = {348: Nifti1Header, 540: Nifti2Header}
_MAGIC = {348: b"n+1\0", 540: b"n+2\0"}


class WrongDimensions(UserError):
    """A file that is neither a volume nor a series."""


class NotFinite(UserError):
    """A file with voxels that are no numbers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Header:
    """What a file says of itself.

    Attributes:
      path: the file.
      shape: (X, Y, Z) or (X, Y, Z, T), in the file's own order.
      affine: (4, 4) voxel indices to mm: the sform where it has a code, else the qform, else the voxel sizes alone.
      spacing_mm: pixdim of X, Y, Z, whatever the affine says.
      scale: (scl_slope, scl_inter), None where the stored values are meant as they are.
      offset: byte at which the voxels begin.
      raw: nibabel's header, which is copied when a prediction is written like its input.
      deflated: whether the voxels alone are packed, as a MetaImage's may be.
      dicom: the volume of DICOM files that it is, else None.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    spacing_mm: tuple[float, float, float]
    scale: tuple[float | None, float | None]
    offset: int
    raw: Nifti1Header
    deflated: bool = False
    dicom: dicom.Volume | None = None

    def disagreement(self) -> str | None:
        """Says how the header contradicts itself about where the voxels lie, or returns None.

        The affine's column lengths must be pixdim within 1 %, and where sform and qform both have a code they must
        put every corner of the volume in the same place within half a voxel.
        """
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        if not np.allclose(lengths, self.spacing_mm, rtol=1e-2):
            return f"its affine has voxels of {_mm(lengths)}, its pixdim of {_mm(self.spacing_mm)}"
        if int(self.raw["qform_code"]) > 0 and int(self.raw["sform_code"]) > 0:
            corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(self.shape[:3]) - 1)
            try:
                difference = cast(np.ndarray, self.raw.get_sform()) - cast(np.ndarray, self.raw.get_qform())
            except (HeaderDataError, ValueError) as error:
                return f"its qform is broken ({error})"
            distance = np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).max()
            if distance > 0.5 * min(self.spacing_mm):
                return f"its sform and qform put a corner of the volume {distance:.1f} mm apart"
        return None


def _mm(lengths: object) -> str:
    return " x ".join(f"{length:.3g}" for length in np.asarray(lengths)) + " mm"


# --- reading ---------------------------------------------------------------------------------------------------------


def read_header(path: Path, *, max_voxels: int = MAX_VOXELS) -> Header:
    """Reads and checks the header, and whether the file can hold what it claims: memory may be taken for it then.

    Anything wrong with it is a `UserError` that names the file.
    """
    volume = dicom.find(path)
    if volume is not None:
        return _of_dicom(path, volume, max_voxels)
    with opened.unpacked(path) as (stream, packing):
        header = _header(path, stream, max_voxels)
        _check_length(header, packing)
        return header


def fill(array: np.ndarray, header: Header) -> None:
    """Reads a file's voxels into an array of its shape, which may be a turned view: there is never a second copy.

    They are float32 and finite: scl_slope * stored + scl_inter.  What is wrong is a `UserError` that names the file.
    """
    path = header.path
    if header.dicom is not None:
        dicom.fill(array, header.dicom)
        return
    with opened.unpacked(path) as (stream, packing):
        if _header(path, stream, math.prod(header.shape)).shape != header.shape:
            raise UserError(f"{path}: it was changed while it was read; try again")
        _check_length(header, packing)
        stream.seek(header.offset)
        if header.deflated:
            stream = cast(BinaryIO, metaimage.Inflated(stream))
        bad = _fill(array, header, stream)
        # Reading on to the end also has the checksum of a compressed file verified.
        if len(stream.read(_MAX_TAIL_BYTES + 1)) > _MAX_TAIL_BYTES:
            raise UserError(f"{path}: it holds more than the {array.size:,} voxels of its header")
    if bad:
        raise NotFinite(
            f"{path}: {bad:,} of its {array.size:,} voxels are not finite numbers; repair or leave out the file"
        )


def identity(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of an image: of its file, or of all files of a DICOM volume."""
    volume = dicom.find(path)
    if volume is None:
        digest = sha256(path)
        return path.stat().st_size, digest
    named = [f"{path.name} {sha256(path)}\n" for path in volume.files]
    digest = hashlib.sha256("".join([f"{volume.label}\n", *named]).encode()).hexdigest()
    return sum(path.stat().st_size for path in volume.files), digest


def bytes_on_disk(header: Header) -> int:
    files = header.dicom.files if header.dicom else [header.path]
    return sum(path.stat().st_size for path in files)


def _header(path: Path, stream: BinaryIO, max_voxels: int) -> Header:
    start = stream.read(4)
    if start in metaimage.STARTS:
        stream.seek(0)
        return _of_metaimage(path, metaimage.describe(path, stream), max_voxels)
    size = next((size for size in _HEADERS for order in ("little", "big") if int.from_bytes(start, order) == size), 0)  # type: ignore[arg-type]
    block = start + stream.read(size - 4) if size else b""
    if not size or len(block) < size:
        raise UserError(f"{path}: this is not a NIfTI file")
    try:
        with np.errstate(all="ignore"):
            raw = _HEADERS[size].from_fileobj(io.BytesIO(block + bytes(4)), check=False)
            raw_shape = tuple(int(n) for n in raw.get_data_shape())
            kind = raw.get_data_dtype()
            affine = np.asarray(raw.get_best_affine(), np.float64)
            spacing = tuple(float(step) for step in raw.get_zooms()[:3])
            scale, offset = raw.get_slope_inter(), int(raw["vox_offset"])
    except (HeaderDataError, ValueError, KeyError, ArithmeticError) as error:
        raise UserError(f"{path}: its NIfTI header is broken ({error})") from None
    if bytes(raw["magic"].item())[:3] != _MAGIC[size][:3]:
        raise UserError(f"{path}: this is not a single-file NIfTI (.nii or .nii.gz)")
    if not size <= offset <= _MAX_HEADER_BYTES:
        raise UserError(f"{path}: its header puts the voxels at byte {offset}")
    shape = _checked(path, raw_shape, kind, affine, spacing, max_voxels)
    return Header(path, shape, affine, (spacing[0], spacing[1], spacing[2]), scale, offset, raw)


def _of_metaimage(path: Path, told: metaimage.Description, max_voxels: int) -> Header:
    shape = _checked(path, told.shape, told.kind, told.affine, told.spacing_mm, max_voxels)
    raw, spacing = _raw(told.kind, told.affine, told.spacing_mm), told.spacing_mm
    return Header(
        path, shape, told.affine, (spacing[0], spacing[1], spacing[2]), (None, None), told.offset, raw, told.packed
    )


def _of_dicom(path: Path, volume: dicom.Volume, max_voxels: int) -> Header:
    if volume.fault:
        raise UserError(f"{path}: DICOM series {volume.label}: {volume.fault}")
    sizes = np.linalg.norm(volume.affine[:3, :3], axis=0)
    spacing = float(sizes[0]), float(sizes[1]), float(sizes[2])
    kind = np.dtype(np.float32)
    shape = _checked(path, volume.shape, kind, volume.affine, spacing, max_voxels)
    raw = _raw(kind, volume.affine, spacing)
    return Header(path, shape, volume.affine, spacing, (None, None), 0, raw, dicom=volume)


def _raw(kind: np.dtype, affine: np.ndarray, spacing_mm: tuple[float, ...]) -> Nifti1Header:
    """The header that a NIfTI file in this place would have."""
    raw = Nifti1Header(endianness=">" if kind.byteorder == ">" else "<")
    raw.set_data_dtype(kind)
    raw.set_data_shape((1, 1, 1))
    raw.set_zooms(spacing_mm)
    raw.set_xyzt_units("mm", "sec")
    raw.set_sform(affine, code=1)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    sheared = np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3  # a tilted gantry; a qform cannot tell it
    raw.set_qform(affine, code=0 if sheared else 1)
    return raw


def _checked(
    path: Path, raw_shape: tuple[int, ...], kind: np.dtype, affine: np.ndarray, spacing: tuple[float, ...], most: int
) -> tuple[int, ...]:
    """The shape of what a header tells, if all of it can be meant and it claims no more than `most` voxels."""
    shape = raw_shape[:3] + tuple(n for n in raw_shape[3:] if n != 1)
    if len(raw_shape) < 3 or len(shape) > 4 or min(raw_shape) < 1:
        raise WrongDimensions(f"{path}: its shape is {raw_shape}; a volume (X, Y, Z) or series (X, Y, Z, T) is needed")
    if math.prod(shape) > most:
        raise UserError(f"{path}: its header claims {str(shape)[:80]} voxels, more than the {most:,} that are read")
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise UserError(f"{path}: its voxels are of type {kind}; real numbers of at most 64 bits are needed")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UserError(f"{path}: its affine is not invertible")
    if len(spacing) != 3 or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise UserError(f"{path}: its voxel size is {spacing}; positive numbers of mm are needed")
    return shape


def _check_length(header: Header, packing: opened.Packing) -> None:
    """What the length on disk, or the archive's own word on it, tells before memory is taken."""
    count, width = math.prod(header.shape), header.raw.get_data_dtype().itemsize
    needed = header.offset + count * width
    packed = packing.packed or header.deflated
    if packing.cannot_hold(needed) if header.deflated else packing.too_short_for(needed):
        if packed:
            raise UserError(
                f"{header.path}: it is damaged or cut short: its archive holds less than the {needed:,} bytes "
                f"of its {count:,} voxels; get the file anew"
            )
        there = max(0, packing.bytes_on_disk - header.offset) // width
        raise UserError(f"{header.path}: it is cut short after {there:,} of {count:,} voxels; get the file anew")
    if packed and count > _LARGE and packing.ratio(needed) > _HARDLY_ANYTHING:
        raise UserError(
            f"{header.path}: {packing.bytes_on_disk:,} bytes unpack to {count:,} voxels, which no image does; "
            "if it is meant, unpack it first (gunzip)"
        )


def _fill(array: np.ndarray, header: Header, stream: BinaryIO) -> int:
    """Reads piece by piece, in the order of the file; returns how many values are not finite."""
    kind = header.raw.get_data_dtype()
    slope, intercept = header.scale
    bad = done = 0
    for where in _pieces(header.shape):
        part = array[where]
        content = stream.read(part.size * kind.itemsize)
        if len(content) < part.size * kind.itemsize:
            there = done + len(content) // kind.itemsize
            raise UserError(
                f"{header.path}: it is cut short after {there:,} of {array.size:,} voxels; get the file anew"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.frombuffer(content, kind).astype(np.float64)
            values *= 1.0 if slope is None else slope
            values += intercept or 0.0
            part[...] = values.reshape(part.shape, order="F")
        bad += part.size - int(np.isfinite(part).sum())
        done += part.size
    return bad


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cuts an array into boxes of at most `_PIECE_VOXELS` that follow one another in the order of the file."""
    inner = math.prod(shape[:-1])
    if inner <= _PIECE_VOXELS:
        step = _PIECE_VOXELS // inner
        for first in range(0, shape[-1], step):
            yield (*[slice(None)] * (len(shape) - 1), slice(first, first + step))
        return
    for last in range(shape[-1]):
        for where in _pieces(shape[:-1]):
            yield (*where, slice(last, last + 1))


# --- writing ---------------------------------------------------------------------------------------------------------


def write_volume(
    path: Path,
    array: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    like: Header | None = None,
    spacing_mm: tuple[float, ...] | None = None,
) -> None:
    """Writes `.nii`, `.nii.gz` or `.mha` atomically; the same voxels always give the same bytes.

    Args:
      path: where to; `.gz` packs it.
      array: (X, Y, Z) or (X, Y, Z, T) in the file's own order; bool is stored as uint8, other types as they are.
      affine: voxel indices to mm, stored as sform and as qform (code 1, scanner).  Not needed with `like`.
      like: a header whose sform, qform, their codes, voxel sizes, units and version (NIfTI 1 or 2) are kept exactly
        as they were, so that the result lies over that file in any viewer.
      spacing_mm: voxel sizes (and seconds between time points) where the affine does not tell them.
    """
    if affine is None and like is None:
        raise ValueError("write_volume needs an affine, or a header to be like")
    array = array.astype(np.uint8) if array.dtype == bool else array
    if path.name.endswith(".mha"):
        _write_metaimage(path, array, like.affine if like is not None else cast(np.ndarray, affine))
        return
    form = nib.Nifti2Image if like is not None and isinstance(like.raw, Nifti2Header) else nib.Nifti1Image
    image = form(array, None if like is not None else affine, dtype=array.dtype.type)  # type: ignore[call-arg]
    header = image.header
    if like is not None:
        for field in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                      "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units", "dim_info"):  # fmt: skip
            header[field] = like.raw[field]
        header["pixdim"][:4] = like.raw["pixdim"][:4]
    else:
        header.set_sform(affine, code=1)
        header.set_qform(affine, code=1)
        header.set_xyzt_units("mm", "sec")
    if spacing_mm is not None:
        header["pixdim"][1 : 1 + len(spacing_mm)] = spacing_mm
    header.set_slope_inter(1.0, 0.0)
    header["vox_offset"] = header.single_vox_offset
    with whole_file(path) as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
                _write(cast(BinaryIO, packed), header, array)
        else:
            _write(file, header, array)


def _write_metaimage(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    content = zlib.compress(np.asfortranarray(array).tobytes(order="F"), 6)
    with whole_file(path) as file:
        file.write(metaimage.head_of(array.shape, array.dtype, affine, packed_bytes=len(content)))
        file.write(content)


def _write(stream: BinaryIO, header: Nifti1Header, array: np.ndarray) -> None:
    block = header.binaryblock
    stream.write(block + bytes(header.single_vox_offset - len(block)))
    stored = array.astype(header.get_data_dtype(), copy=False)
    stream.write(np.asfortranarray(stored).tobytes(order="F"))
