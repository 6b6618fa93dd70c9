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
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke import console
from jaxstroke.data.atomic import sweep, whole_file
from jaxstroke.data.case import Case
from jaxstroke.data.prepare import Inverse, Prepared, prepare
from jaxstroke.data.sealed import sealed, unsealed
from jaxstroke.data.study import read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data

# Changes whenever preparation or the form of the cache does, so that old caches are not mistaken for new ones.
FORMAT = 2
_INDEX = "index.json"
_ARRAYS = {"images": np.float32, "masks": np.uint8, "distance": np.float16}

Progress = Callable[..., None]


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
        index = _read_json(folder / _INDEX)
        if index is None:
            raise UserError(f"{folder / _INDEX}: there is no readable index; delete the folder and train again")
        cache = _cache(folder, index)
        for study in cache.studies:
            damaged = _damaged(folder, study)
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
        path = self.folder / _file_name(study, kind)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None

    def slices(self, study: str, kind: str, start: int, stop: int) -> np.ndarray:
        """Reads slices start..stop of the "images", "masks" or "distance" of a study, and nothing else."""
        path = self.folder / _file_name(study, kind)
        try:
            shape, dtype, offset = _array_header(path)
            count, each = max(0, min(stop, shape[0]) - start), math.prod(shape[1:])
            values = np.fromfile(path, dtype, count * each, offset=offset + start * each * dtype.itemsize)
            return values.reshape(count, *shape[1:])
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None


@functools.lru_cache(maxsize=2**16)
def _array_header(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type and place of the first value of an `.npy` file."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read(file)
        if by_column or dtype.hasobject:
            raise ValueError("it is not a plain array")
        return shape, dtype, file.tell()


def build_cache(cases: Sequence[Case], data: Data, folder: Path, progress: Progress | None = None) -> Cache:
    """Prepares the studies into a cache below `folder`, or takes the one that is there.

    Args:
      cases: the studies; each must have every image and every target that `data` names.
      data: what is prepared, and how.
      folder: of all caches; this one lies in a folder that bears its fingerprint.
      progress: called with (1, study) after each study.
    """
    if not cases:
        raise UserError("there is no study to prepare")
    advance = progress or (lambda steps, note: None)
    recipe = _recipe(data)
    sources = {case.study: _source_files(case, data) for case in cases}
    fingerprint = _fingerprint(recipe, cases, sources)
    home = folder / fingerprint
    sweep(home)
    studies = []
    for case in cases:
        studies.append(_finished(home, case.study, fingerprint) or _build_study(home, case, data, fingerprint))
        advance(1, case.study)
    return _indexed(home, fingerprint, recipe, sources, studies)


def derive_cache(
    cache: Cache,
    folder: Path,
    *,
    name: str,
    made_by: Sequence[str],
    channel: Callable[[str, np.ndarray], np.ndarray],
    progress: Progress | None = None,
) -> Cache:
    """Returns a cache of the same studies with one more image behind the others, or takes the one that is there.

    Args:
      cache: what it is made from.
      folder: of all caches.
      name: the word of the new image.
      made_by: what else than the cache decides it, such as checksums of weights.
      channel: (study, images (D, H, W, C)) -> the new image (D, H, W).
      progress: called with (1, study) after each study.
    """
    advance = progress or (lambda steps, note: None)
    text = json.dumps([FORMAT, cache.fingerprint, name, *made_by])
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    home = folder / fingerprint
    sweep(home)
    studies = []
    for study in cache.studies:
        done = _finished(home, study.study, fingerprint)
        studies.append(done or _derive_study(home, cache, study, channel, fingerprint))
        advance(1, study.study)
    recipe = {**cache.recipe, "derived": [*cache.recipe.get("derived", []), name]}
    return _indexed(home, fingerprint, recipe, {"cache": cache.fingerprint, "made_by": list(made_by)}, studies)


def _indexed(
    home: Path, fingerprint: str, recipe: dict[str, Any], sources: dict[str, Any], studies: Sequence[CachedStudy]
) -> Cache:
    """Writes the index of finished studies, unless it is there already, and opens the cache."""
    index = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "recipe": recipe,
        "sources": sources,
        "studies": [dataclasses.asdict(study) for study in studies],
    }
    if _read_json(home / _INDEX) != json.loads(json.dumps(index)):
        if (home / _INDEX).exists():
            console.warn(f"{home / _INDEX}: it is damaged; it is written again")
        _write_json(home / _INDEX, index)
    return _cache(home, index)


# --- what a cache is made of -----------------------------------------------------------------------------------------


def _recipe(data: Data) -> dict[str, Any]:
    """The fields of `Data` that change what preparation writes."""
    return {
        "layout": data.layout,
        "channels": list(data.channels),
        "targets": list(data.targets),
        "size": data.size,
        "spacing_mm": data.spacing_mm,
        "normalise": data.normalise,
        "time_points": data.depth if data.example == "series" else None,
    }


def _source_files(case: Case, data: Data) -> dict[str, list[Any]]:
    """Path (from the study's common folder), bytes and SHA-256 of each file that preparation reads."""
    wanted = [(word, case.images.get(word), "image", case.images) for word in data.channels]
    wanted += [(word, case.masks.get(word), "mask", case.masks) for word in data.targets]
    paths = {}
    for word, path, kind, files in wanted:
        if path is None:
            has = ", ".join(sorted(files)) or "none"
            raise UserError(f"study {case.study}: it has no {kind} {word}; its {kind}s are: {has}")
        paths[word] = path
    common = os.path.commonpath([path.parent for path in paths.values()])
    return {word: [os.path.relpath(path, common), *_identity(path)] for word, path in paths.items()}


def _identity(path: Path) -> tuple[int, str]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return path.stat().st_size, digest
    except OSError as error:
        raise UserError(f"{path}: it cannot be read: {error.strerror or error}") from None


def _fingerprint(recipe: dict[str, Any], cases: Iterable[Case], sources: dict[str, Any]) -> str:
    named = [[case.study, case.patient, sources[case.study]] for case in cases]
    text = json.dumps([FORMAT, recipe, named], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- one study -------------------------------------------------------------------------------------------------------


def _file_name(study: str, kind: str) -> str:
    return f"{study}.{kind}.npy"


def _build_study(home: Path, case: Case, data: Data, fingerprint: str) -> CachedStudy:
    prepared = prepare(read_study(case, data.channels, data.targets), data)
    files = _write_arrays(home, case.study, {kind: getattr(prepared, kind) for kind in _ARRAYS})
    return _seal(home, _describe(case, prepared, files), fingerprint)


def _derive_study(
    home: Path,
    cache: Cache,
    study: CachedStudy,
    channel: Callable[[str, np.ndarray], np.ndarray],
    fingerprint: str,
) -> CachedStudy:
    arrays = {kind: np.asarray(cache.array(study.study, kind)) for kind in _ARRAYS}
    added = np.asarray(channel(study.study, arrays["images"]), np.float32)
    arrays["images"] = np.concatenate([arrays["images"], added[..., None]], axis=-1)
    files = _write_arrays(home, study.study, arrays)
    return _seal(home, dataclasses.replace(study, files=files), fingerprint)


def _write_arrays(home: Path, study: str, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    names = {kind: _file_name(study, kind) for kind in _ARRAYS}
    return {names[kind]: _write_array(home / names[kind], arrays[kind].astype(_ARRAYS[kind])) for kind in _ARRAYS}


def _seal(home: Path, study: CachedStudy, fingerprint: str) -> CachedStudy:
    """Marks a study as finished."""
    _write_json(home / f"{study.study}.json", {"fingerprint": fingerprint, **dataclasses.asdict(study)})
    return study


def _describe(case: Case, prepared: Prepared, files: dict[str, str]) -> CachedStudy:
    depth, height, width = prepared.masks.shape[:3]
    lesion = tuple(int(count) for count in prepared.masks.sum(axis=(1, 2, 3), dtype=np.int64))
    return CachedStudy(
        case.study, case.patient, (depth, height, width), lesion, prepared.spacing_mm, prepared.inverse, files
    )


def _finished(home: Path, name: str, fingerprint: str) -> CachedStudy | None:
    """The study as an earlier build left it, or None; a damaged one is said aloud and made again."""
    path = home / f"{name}.json"
    if not path.exists():
        return None
    tree = _read_json(path)
    if tree is None or tree.pop("fingerprint", None) != fingerprint:
        console.warn(f"{path}: it is damaged; study {name} is prepared again")
        return None
    study = _study_from(tree, path)
    damaged = _damaged(home, study)
    if damaged:
        console.warn(f"{damaged}: it is missing or damaged; study {name} is prepared again")
        return None
    return study


def _damaged(home: Path, study: CachedStudy) -> Path | None:
    """The first file of a study that is missing or does not have its checksum."""
    for name, digest in study.files.items():
        path = home / name
        if not path.is_file() or _identity(path)[1] != digest:
            return path
    return None


# --- files -----------------------------------------------------------------------------------------------------------


def _cache(folder: Path, index: dict[str, Any]) -> Cache:
    if index.get("format") != FORMAT:
        raise UserError(f"{folder / _INDEX}: it is of another version of the program; delete {folder}")
    studies = tuple(_study_from(tree, folder / _INDEX) for tree in index["studies"])
    return Cache(folder, index["fingerprint"], index["recipe"], studies)


def _study_from(tree: dict[str, Any], path: Path) -> CachedStudy:
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
    return _identity(path)[1]


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(sealed(tree), indent=1).encode())


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return unsealed(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
