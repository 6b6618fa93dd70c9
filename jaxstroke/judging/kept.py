"""Masks kept beside scores, so that readers and systems can be held against each other later, whoever judged them.

masks.json holds a line for each study, target and maker (an annotation, or a system): the mask within its smallest box.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.metrics.overlap import Mask, crop_to_union
from jaxstroke.metrics.statistics import cohens_kappa, kappa_of_counts

FILE = "masks.json"
_MOST_VOXELS = 2**29
Masks = dict[tuple[str, str], dict[str, Mask]]  # by study and target, and in it by who drew it


def line(study: str, target: str, maker: str, mask: np.ndarray) -> dict[str, Any]:
    """What is kept of one mask."""
    mask = np.asarray(mask) == 1
    places = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = [[int(found[0]), int(found[-1]) + 1] if found.size else [0, 0] for found in places]
    inside = mask[tuple(slice(*edges) for edges in box)]
    bits = base64.b64encode(zlib.compress(np.packbits(inside).tobytes())).decode("ascii")
    return {"study": study, "target": target, "by": maker, "shape": list(mask.shape), "box": box, "bits": bits}


def mask_of(kept: Mapping[str, Any]) -> Mask:
    """The inverse of `line`."""
    shape, box = tuple(int(edge) for edge in kept["shape"]), [(int(a), int(b)) for a, b in kept["box"]]
    inner = tuple(b - a for a, b in box)
    if len(shape) != 3 or len(box) != 3 or not 0 <= math.prod(shape) <= _MOST_VOXELS:
        raise ValueError(f"no mask has the shape {shape}")
    if not all(0 <= a <= b <= edge for (a, b), edge in zip(box, shape, strict=True)):
        raise ValueError(f"the box {box} lies outside {shape}")
    count = math.prod(inner)
    unpacked = zlib.decompressobj().decompress(base64.b64decode(kept["bits"]), max(1, math.ceil(count / 8)))
    if len(unpacked) != math.ceil(count / 8):
        raise ValueError(f"{len(unpacked)} bytes for {count} voxels")
    whole = np.zeros(shape, bool)
    bits = np.unpackbits(np.frombuffer(unpacked, np.uint8), count=count)
    whole[tuple(slice(a, b) for a, b in box)] = bits.reshape(inner)
    return whole


def write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    files.write_json(path, list(lines))


def read(path: Path, split: str, wanted: Iterable[str]) -> Masks:
    """Of a run's evaluation, or of the folds of a crossval folder, the wanted makers' masks and the annotations.

    Nothing where none were kept.
    """
    found: Masks = {}
    wanted = set(wanted)
    for file in _files(path, split):
        for one in files.read_json(file):
            try:
                if one["by"] in wanted or one["by"].startswith("reference"):
                    found.setdefault((one["study"], one["target"]), {})[one["by"]] = mask_of(one)
            except (KeyError, TypeError, ValueError, zlib.error, binascii.Error) as error:
                raise UserError(f"{file}: it is damaged ({error}); evaluate the run again") from None
    return found


def _files(path: Path, split: str) -> list[Path]:
    own = path / "evaluation" / split / FILE
    if own.is_file():
        return [own]
    if not (path / "summary.json").is_file():
        return []
    tree = files.read_json(path / "summary.json")
    folds = tree.get("folds", []) if isinstance(tree, dict) else []
    return [file for fold in folds if (file := Path(fold) / "evaluation" / "test" / FILE).is_file()]


def kappas(masks: Masks) -> dict[tuple[str, str, str], list[float]]:
    """By target and pair of makers: kappa of each study that both drew in."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for (_, target), drawn in masks.items():
        for first, second in itertools.combinations(drawn, 2):
            found.setdefault((target, first, second), []).append(_kappa(drawn[first], drawn[second]))
    return found


def _kappa(one: Mask, other: Mask) -> float:
    if one.shape != other.shape:
        return cohens_kappa(one, other)  # which says how they differ
    a, b = crop_to_union(one, other)
    return kappa_of_counts(int((a & b).sum()), int(a.sum()), int(b.sum()), one.size)
