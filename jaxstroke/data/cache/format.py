"""Prepared studies on disk, read at random: plain `.npy` arrays, a checksum for every file.

    FOLDER/FINGERPRINT/index.json               recipe, studies in order, SHA-256 of every file
    FOLDER/FINGERPRINT/STUDY.images.npy         (D, H, W, C) float32
    FOLDER/FINGERPRINT/STUDY.masks.npy          (D, H, W, K) uint8
    FOLDER/FINGERPRINT/STUDY.distance.npy       (D, H, W, K) float16: exact to .06 pixel within 128 pixels
    FOLDER/FINGERPRINT/STUDY.json               written last: this study is finished; sealed, as the index is

The fingerprint covers the recipe (what of `Data` influences preparation) and each source file's path, size and
SHA-256: a cache is used again only for the same files prepared the same way, and another recipe lies beside it.
Every file is written whole or not at all, so an interrupted build goes on where it was, and two processes may build
the same cache.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import math
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke import console
from jaxstroke.data.cache.fingerprint import FORMAT, identity
from jaxstroke.data.prepare import Inverse
from jaxstroke.errors import UserError
from jaxstroke.files.atomic import whole_file
from jaxstroke.files.sealed import sealed, unsealed

INDEX = "index.json"
ARRAYS = {"images": np.float32, "masks": np.uint8, "distance": np.float16}


@dataclasses.dataclass(frozen=True)
class CachedStudy:
    """What the index knows of a study.

    Attributes:
      shape: (D, H, W) as prepared.
      lesion_pixels: in each slice, of all targets together.
      spacing_mm: as prepared, along D, H, W.
      files: SHA-256 by file name.
    """

    study: str
    patient: str
    shape: tuple[int, int, int]
    lesion_pixels: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    inverse: Inverse
    files: dict[str, str]

    @property
    def slices(self) -> int:
        return self.shape[0]


@dataclasses.dataclass(frozen=True)
class Cache:
    """An opened cache; its files were checked when it was opened."""

    folder: Path
    fingerprint: str
    recipe: dict[str, Any]
    studies: tuple[CachedStudy, ...]

    @staticmethod
    def open(folder: Path) -> Cache:
        """Opens a finished cache and verifies every file; a damaged one is a `UserError`."""
        index = read_json(folder / INDEX)
        if index is None:
            raise UserError(f"{folder / INDEX}: there is no readable index; delete the folder and train again")
        cache = cache_from(folder, index)
        for study in cache.studies:
            damaged = damaged_file(folder, study)
            if damaged:
                raise UserError(f"{damaged}: it is missing or damaged; delete {folder} and train again")
        return cache

    def study(self, name: str) -> CachedStudy:
        for study in self.studies:
            if study.study == name:
                return study
        raise UserError(f"{self.folder}: study {name} is not in this cache")

    def array(self, study: str, kind: str) -> np.ndarray:
        """Memory-maps the whole of the "images", "masks" or "distance" of a study."""
        path = self.folder / file_name(study, kind)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None

    def slices(self, study: str, kind: str, start: int, stop: int) -> np.ndarray:
        """Reads slices start..stop of the "images", "masks" or "distance" of a study, and nothing else."""
        path = self.folder / file_name(study, kind)
        try:
            shape, dtype, offset = _array_header(path)
            count, each = max(0, min(stop, shape[0]) - start), math.prod(shape[1:])
            values = np.fromfile(path, dtype, count * each, offset=offset + start * each * dtype.itemsize)
            return values.reshape(count, *shape[1:])
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None

    def read_crop(self, study: str, kind: str, start: int, corner: tuple[int, int], out: np.ndarray) -> None:
        """Reads a crop (count, rows, columns, channels) from slice `start` on, into where it is wanted."""
        path = self.folder / file_name(study, kind)
        (row, column), (rows, columns) = corner, out.shape[1:3]
        try:
            shape, dtype, offset = _array_header(path)
            if shape[3:] != out.shape[3:] or dtype != out.dtype:
                raise ValueError(f"{shape[3:]} {dtype} a pixel are there, {out.shape[3:]} {out.dtype} were asked for")
            whole_rows = columns == shape[2] and out.flags.c_contiguous
            with path.open("rb", buffering=0) as file:
                for number, plane in enumerate(out, start):
                    file.seek(offset + (number * shape[1] + row) * math.prod(shape[2:]) * dtype.itemsize)
                    band = plane if whole_rows else _scratch((rows, *shape[2:]), dtype)
                    _fill(file, band)
                    if not whole_rows:
                        plane[...] = band[:, column : column + columns]
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None


_kept = threading.local()


def _scratch(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory of this thread, used again and again: the system's zeroing of new memory costs more than reading."""
    size = math.prod(shape) * dtype.itemsize
    if getattr(_kept, "bytes", np.empty(0, np.uint8)).size < size:
        _kept.bytes = np.empty(size, np.uint8)
    return _kept.bytes[:size].view(dtype).reshape(shape)


def _fill(file: io.FileIO, array: np.ndarray) -> None:
    place = memoryview(array.data).cast("B")
    while place:
        count = file.readinto(place)
        if not count:
            raise ValueError("it ends too early")
        place = place[count:]


# As NumPy writes it. Its own reading goes through Python's parser, which threads must not enter at once: CPython 3.11
# ends that now and then with a SystemError.
_HEADER = re.compile(rb"\{'descr': '([<>|=][biuf]\d+)', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \}\s*")


@functools.lru_cache(maxsize=2**16)
def _array_header(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type and place of the first value of an `.npy` file of format 1."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        told = _HEADER.fullmatch(file.read(int.from_bytes(file.read(2), "little")))
        if version != (1, 0) or told is None or told[2] == b"True":
            raise ValueError("it is not a plain array")
        shape = tuple(int(count) for count in told[3].split(b",") if count.strip())
        return shape, _type(told[1].decode()), file.tell()


def _type(word: str) -> np.dtype:
    try:
        return np.dtype(word)
    except TypeError as error:
        raise ValueError(str(error)) from None


def file_name(study: str, kind: str) -> str:
    return f"{study}.{kind}.npy"


def write_arrays(home: Path, study: str, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    names = {kind: file_name(study, kind) for kind in ARRAYS}
    return {names[kind]: _write_array(home / names[kind], arrays[kind].astype(ARRAYS[kind])) for kind in ARRAYS}


def finish(home: Path, study: CachedStudy, fingerprint: str) -> CachedStudy:
    """Marks a study as finished."""
    write_json(home / f"{study.study}.json", {"fingerprint": fingerprint, **dataclasses.asdict(study)})
    return study


def finished(home: Path, name: str, fingerprint: str) -> CachedStudy | None:
    """The study as an earlier build left it, or None; a damaged one is said aloud and made again."""
    path = home / f"{name}.json"
    if not path.exists():
        return None
    tree = read_json(path)
    if tree is None or tree.pop("fingerprint", None) != fingerprint:
        console.warn(f"{path}: it is damaged; study {name} is prepared again")
        return None
    study = study_from(tree, path)
    damaged = damaged_file(home, study)
    if damaged:
        console.warn(f"{damaged}: it is missing or damaged; study {name} is prepared again")
        return None
    return study


def damaged_file(home: Path, study: CachedStudy) -> Path | None:
    """The first file of a study that is missing or does not have its checksum."""
    for name, digest in study.files.items():
        path = home / name
        if not path.is_file() or identity(path)[1] != digest:
            return path
    return None


def cache_from(folder: Path, index: dict[str, Any]) -> Cache:
    if index.get("format") != FORMAT:
        raise UserError(
            f"{folder / INDEX}: this cache is of format {index.get('format')}, and this program reads format {FORMAT}; "
            f"delete {folder} and train again"
        )
    studies = tuple(study_from(tree, folder / INDEX) for tree in index["studies"])
    return Cache(folder, index["fingerprint"], index["recipe"], studies)


def study_from(tree: dict[str, Any], path: Path) -> CachedStudy:
    try:
        inverse = Inverse(**{name: tuple(values) for name, values in tree["inverse"].items()})
        tuples = {name: tuple(tree[name]) for name in ("shape", "lesion_pixels", "spacing_mm")}
        return CachedStudy(**{**tree, **tuples, "inverse": inverse})
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: it does not describe a prepared study; delete the folder {path.parent}") from None


def _unreadable(path: Path, error: Exception) -> UserError:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return UserError(f"{path}: it cannot be read ({why}); was the cache deleted during the run?")


def _write_array(path: Path, array: np.ndarray) -> str:
    """Writes an array and returns the SHA-256 of the file as it was read back from disk."""
    with whole_file(path) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return identity(path)[1]


def write_json(path: Path, tree: dict[str, Any]) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(sealed(tree), indent=1).encode())


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        return unsealed(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
