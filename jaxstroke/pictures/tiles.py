"""Slices as pixels: windowed, enlarged, with contours and heat; and many of them side by side.

A reference is drawn blue and dashed, a prediction orange and whole, so that colour is not all that tells them apart;
the two colours, and yellow for where both agree, are told apart by colour-blind eyes too (Okabe and Ito's palette).
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from scipy import ndimage

PREDICTION = (230, 126, 0)
REFERENCE = (86, 180, 233)
AGREED = (240, 228, 66)
_DASH = 5  # pixels


@dataclasses.dataclass(frozen=True, eq=False)
class Contour:
    """The edge of a (H, W) mask."""

    mask: np.ndarray
    colour: tuple[int, int, int]
    dashed: bool = False


def reference_contour(mask: np.ndarray) -> Contour:
    return Contour(mask, REFERENCE, dashed=True)


def prediction_contour(mask: np.ndarray) -> Contour:
    return Contour(mask, PREDICTION)


def tile(
    plane: np.ndarray, low: float, high: float, size: tuple[int, int], *, contours: Sequence[Contour] = (),
    colormap: str = "gray",
) -> np.ndarray:  # fmt: skip
    """(H, W) values between low and high as (height, width, 3) uint8 of the given size."""
    scaled = np.clip((enlarged(plane, size) - low) / max(high - low, 1e-12), 0, 1)
    pixels = (matplotlib.colormaps[colormap](scaled)[..., :3] * 255).astype(np.uint8)
    for contour in contours:
        pixels[edge(contour, size)] = contour.colour
    return pixels


def compared(prediction: np.ndarray, reference: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """A tile with what is right and wrong filled in: agreed yellow, predicted alone orange, missed blue."""
    size = pixels.shape[:2]
    inside, expected = enlarged(prediction, size) >= 0.5, enlarged(reference, size) >= 0.5
    result = pixels.astype(np.float32)
    kinds = ((inside & expected, AGREED), (inside & ~expected, PREDICTION), (expected & ~inside, REFERENCE))
    for where, colour in kinds:
        result[where] = 0.3 * result[where] + 0.7 * np.asarray(colour, np.float32)
    return result.astype(np.uint8)


def edge(contour: Contour, size: tuple[int, int]) -> np.ndarray:
    """Where the line lies, (height, width) bool."""
    inside = enlarged(contour.mask, size) >= 0.5
    thick = max(1, round(max(size) / 100))
    core = np.asarray(ndimage.binary_erosion(inside, iterations=thick, border_value=1), np.bool_)
    line = inside & ~core
    if contour.dashed:
        rows, columns = np.indices(size) // _DASH
        line &= (rows + columns) % 2 == 0
    return line


def enlarged(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A plane at another size, linear between the centres of its pixels."""
    rows, columns = ((np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(plane.shape, size, strict=True))
    where = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(plane.astype(np.float32), where, order=1, mode="nearest")


def size_of(plane_shape: tuple[int, int], spacing_mm: Sequence[float], longest: int) -> tuple[int, int]:
    """Height and width of a tile whose pixels are square, of so many along the longer side."""
    height, width = plane_shape[0] * spacing_mm[-2], plane_shape[1] * spacing_mm[-1]
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def mosaic(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Tiles of one size in rows, white between them."""
    lines = [_joined(row, gap, axis=1) for row in rows]
    return _joined(lines, gap, axis=0)


def _joined(parts: Sequence[np.ndarray], gap: int, axis: int) -> np.ndarray:
    between = np.full((parts[0].shape[0], gap, 3) if axis else (gap, parts[0].shape[1], 3), 255, np.uint8)
    pieces = [piece for part in parts for piece in (between, part)][1:]
    return np.concatenate(pieces, axis=axis)


def png(pixels: np.ndarray) -> bytes:
    from matplotlib.image import imsave

    memory = io.BytesIO()
    imsave(memory, pixels, format="png")
    return memory.getvalue()


def shown_slices(
    prediction: np.ndarray, reference: np.ndarray | None, probabilities: np.ndarray, most: int
) -> list[int]:
    """The slices that matter: most lesion, drawn or predicted; without any, the highest probability."""
    areas = prediction.sum(axis=(1, 2), dtype=np.float64)
    if reference is not None:
        areas = areas + reference.sum(axis=(1, 2), dtype=np.float64)
    if not areas.any():
        areas = probabilities.sum(axis=(1, 2), dtype=np.float64)
    return sorted(np.argsort(-areas, kind="stable")[:most].tolist())
