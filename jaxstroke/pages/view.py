"""A study as a page carries it: cropped to the head, rounded, packed, and as JSON text.

A volume is kept as whole numbers q, value = low + step q, of one byte or two; each row holds the differences between
neighbours, which pack better; two bytes lie in two planes, the low ones first; all of it gzip in base64.  Where a
study would be larger than it may, its values are kept in one byte, and if need be its slices at half, a third, ... of
their resolution.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxstroke.data.layouts import find_layout
from jaxstroke.pages import windows
from jaxstroke.pages.seen import Seen
from jaxstroke.pictures import tiles
from jaxstroke.pictures.head import Box, head_box, volumes

MARGIN_MM = 6.0
THUMBNAIL_PIXELS = 150
_ALL_BYTES, _ONE_BYTE = 4095, 255  # the largest q
_SHRINKS = (1, 2, 3, 4, 6, 8)


def view(seen: Seen, *, phantom: bool, most_bytes: int) -> dict[str, Any]:
    """What the page shows of a study, in at most `most_bytes` of JSON text (but for a study with very many slices)."""
    judged = [mask for masks in seen.predictions.values() for mask in masks.values()]
    box = head_box(seen.study, [*seen.study.masks.values(), *judged], MARGIN_MM)
    tries = [(_ALL_BYTES, 1), *((_ONE_BYTE, shrink) for shrink in _SHRINKS)]
    for largest, shrink in tries:
        made = _view(seen, box, largest, shrink, phantom)
        if len(json.dumps(made)) <= most_bytes:
            break
    return made


def _view(seen: Seen, box: Box, largest: int, shrink: int, phantom: bool) -> dict[str, Any]:
    study, images = seen.study, volumes(seen.study)
    layout = find_layout(study.case.layout)
    kept = [_image(word, image[box], layout.units.get(word, ""), largest, shrink) for word, image in images.items()]
    for name, one in seen.probabilities.items():
        title = f"probability, {name}" if len(seen.probabilities) > 1 else "probability"
        kept.append(_fraction(title, one[box], shrink, name))
    kept += [_map(path, values[box], shrink) for path, values in seen.maps.items()]
    depth, row, column = study.spacing_mm
    return {
        "study": study.case.study,
        "patient": study.case.patient,
        "phantom": phantom,
        "sides": not layout.affine_from_zooms,
        "shape": _shrunk(next(iter(images.values()))[box], shrink).shape,
        "native": next(iter(images.values())).shape,
        "corner": [part.start for part in box],
        "shrink": shrink,
        "spacing_mm": [depth, row * shrink, column * shrink],
        "volumes": kept,
        "references": {name: _mask(mask[box], shrink) for name, mask in study.masks.items()},
        "predictions": {
            system: {name: _mask(np.asarray(mask)[box], shrink) for name, mask in masks.items()}
            for system, masks in seen.predictions.items()
        },
        "picture": thumbnail(seen, box),
    }


def thumbnail(seen: Seen, box: Box) -> str:
    """The slice with the most lesion and both contours, as a PNG in base64."""
    study = seen.study
    annotation, reference = next(iter(study.masks.items()))
    prediction = next(iter(seen.predictions.values()))[annotation]
    probabilities = next(iter(seen.probabilities.values()), prediction)
    (index,) = tiles.shown_slices(prediction, reference, probabilities, 1)
    word, image = list(volumes(study).items())[-1]
    low, high = (windows.presets(word, image)[0][end] for end in ("low", "high"))
    plane = (index, *box[1:])
    contours = [tiles.reference_contour(reference[plane]), tiles.prediction_contour(prediction[plane])]
    size = tiles.size_of(image[plane].shape, study.spacing_mm, THUMBNAIL_PIXELS)
    return base64.b64encode(tiles.png(tiles.tile(image[plane], low, high, size, contours=contours))).decode("ascii")


def _image(word: str, image: np.ndarray, unit: str, largest: int, shrink: int) -> dict[str, Any]:
    shown = windows.presets(word, image)
    low, high = windows.kept_range(word, image, shown)
    facts = {"name": word, "kind": "image", "unit": unit, "windows": shown}
    return {**facts, **_packed(_shrunk(image, shrink), low, high, largest)}


def _fraction(name: str, values: np.ndarray, shrink: int, annotation: str) -> dict[str, Any]:
    facts = {"name": name, "kind": "probability", "unit": "", "annotation": annotation}
    return {**facts, "windows": [], **_packed(_shrunk(values, shrink), 0.0, 1.0, _ONE_BYTE)}


def _map(path: str, values: np.ndarray, shrink: int) -> dict[str, Any]:
    low, high = float(values.min()), float(values.max())
    facts = {"name": path, "kind": "map", "unit": "", "windows": []}
    return {**facts, **_packed(_shrunk(values, shrink), low, high if high > low else low + 1.0, _ONE_BYTE)}


def _mask(mask: np.ndarray, shrink: int) -> str:
    return pack((_shrunk(np.asarray(mask) > 0, shrink) >= 0.5).astype(np.uint8))


def _shrunk(values: np.ndarray, shrink: int) -> np.ndarray:
    """Means of squares of pixels in each slice; the last rows and columns that fill no square are dropped."""
    if shrink == 1:
        return values
    depth, height, width = values.shape[0], values.shape[1] // shrink, values.shape[2] // shrink
    cut = values[:, : height * shrink, : width * shrink].astype(np.float32)
    return cut.reshape(depth, height, shrink, width, shrink).mean(axis=(2, 4))


def _packed(values: np.ndarray, low: float, high: float, largest: int) -> dict[str, Any]:
    step = (high - low) / largest
    q = np.clip(np.rint((values.astype(np.float64) - low) / step), 0, largest)
    kind = np.uint8 if largest <= _ONE_BYTE else np.uint16
    return {"low": low, "step": step, "bytes": np.dtype(kind).itemsize, "data": pack(q.astype(kind))}


def pack(values: np.ndarray) -> str:
    """(D, H, W) of uint8 or uint16 as text; `unpack` is its inverse, and the page has one of its own."""
    differences = np.diff(values, axis=-1, prepend=values.dtype.type(0))  # modulo 256 or 65,536
    planes = np.ascontiguousarray(differences, "<u2").view(np.uint8).reshape(-1, 2).T[: values.dtype.itemsize]
    return base64.b64encode(gzip.compress(planes.tobytes(), compresslevel=6, mtime=0)).decode("ascii")


def unpack(text: str, shape: tuple[int, int, int], size: int) -> np.ndarray:
    planes = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(size, *shape)
    kind = np.uint8 if size == 1 else np.uint16
    differences = sum(plane.astype(kind) << (8 * number) for number, plane in enumerate(planes))
    return np.cumsum(differences, axis=-1, dtype=kind)


def values(volume: Mapping[str, Any], shape: tuple[int, int, int]) -> np.ndarray:
    """The values of a volume as they are shown."""
    return volume["low"] + volume["step"] * unpack(volume["data"], shape, volume["bytes"]).astype(np.float64)
