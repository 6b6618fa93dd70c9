"""From a study to what a network sees: intensities normalised inside the head, pixels resampled within each slice.

The order is: normalise on the study's own grid; set everything outside the head to 0; resample in plane; crop and pad.
Slices are never resampled through plane.  `restore` takes a network's answer the same way back.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from scipy import ndimage

from jaxstroke.data.layouts import Layout, find_layout
from jaxstroke.data.study import Study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data

# Normalised values are clipped here, so that one artefact cannot dominate a batch; healthy tissue stays within 3.
CLIP = 8.0
# Kept around the head when the field of view is cropped.
_MARGIN_MM = 5.0
# Shrinking by more than this is preceded by a low-pass filter.
_ANTIALIAS_ABOVE = 1.5
_AIR_BELOW_HU = -200.0


@dataclasses.dataclass(frozen=True)
class Inverse:
    """How a prepared plane lies in the study's own plane, in pixels.

    Attributes:
      native: (H, W) of the study.
      resampled: (H, W) of the whole field of view after resampling.
      box: (top, bottom, left, right) of what was kept of that.
      pad: (top, left) rows and columns of zeros put before it.
      prepared: (H, W) of the result.
    """

    native: tuple[int, int]
    resampled: tuple[int, int]
    box: tuple[int, int, int, int]
    pad: tuple[int, int]
    prepared: tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """Attributes:
    images: (D, H, W, C) float32, normalised, 0 outside the head.
    masks: (D, H, W, K) uint8; K is 0 for a study that was read without masks.
    distance: (D, H, W, K) float32, see `signed_distance`.
    spacing_mm: voxel size along D, H, W.
    inverse: the way back.
    """

    images: np.ndarray
    masks: np.ndarray
    distance: np.ndarray
    spacing_mm: tuple[float, float, float]
    inverse: Inverse


def prepare(study: Study, data: Data) -> Prepared:
    """Prepares a study as an experiment wants it."""
    images, head = _normalised_images(study, data)
    masks = _stacked_masks(study, data, head.shape)
    inverse = _plan(head, study.spacing_mm, data)
    prepared_images = _to_prepared(images, inverse)
    # Interpolating a mask and cutting at one half keeps areas and does not shift contours, as taking the nearest
    # pixel does by up to half a pixel.
    prepared_masks = (_to_prepared(masks.astype(np.float32), inverse) >= 0.5).astype(np.uint8)
    depth, row, column = study.spacing_mm
    spacing = (
        depth,
        row * inverse.native[0] / inverse.resampled[0],
        column * inverse.native[1] / inverse.resampled[1],
    )
    return Prepared(prepared_images, prepared_masks, signed_distance(prepared_masks), spacing, inverse)


def restore(values: np.ndarray, inverse: Inverse) -> np.ndarray:
    """Brings (D, h, w, K) probabilities to the study's own grid (D, H, W, K): bilinear, 0 outside what was kept."""
    top, bottom, left, right = inverse.box
    rows = slice(inverse.pad[0], inverse.pad[0] + bottom - top)
    columns = slice(inverse.pad[1], inverse.pad[1] + right - left)
    kept = np.asarray(values, np.float32)[:, rows, columns]
    whole = np.zeros((kept.shape[0], *inverse.resampled, kept.shape[3]), np.float32)
    whole[:, top:bottom, left:right] = kept
    return _resample(whole, inverse.native)


# --- intensities -----------------------------------------------------------------------------------------------------


def _normalised_images(study: Study, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Returns (D, H, W, C) normalised images and the (D, H, W) head, the union of the channels' heads."""
    layout = find_layout(study.case.layout)
    if data.kind.holds_times:
        return _normalised_series(study, data, layout)
    if "CTP" in data.channels:
        raise UserError("data.groups: CTP is a series of time points; it needs data.example=series and no other image")
    planes = {word: _image(study, word) for word in data.channels if word not in study.missing}
    if not planes:
        raise UserError(f"study {study.case.study}: it has none of the network's images, {', '.join(data.channels)}")
    heads = _heads(planes, layout)
    shape = next(iter(planes.values())).shape
    images = np.zeros((*shape, len(data.channels)), np.float32)  # of an image that is missing they stay 0
    for index, word in enumerate(data.channels):
        if word in planes:
            images[..., index] = _normalise(planes[word], heads[word], data, layout, word)
    return images, np.logical_or.reduce(list(heads.values()))


def _normalised_series(study: Study, data: Data, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The time points of CTP become the channels: `data.depth` of them, normalised together so that time is kept."""
    if data.channels != ("CTP",):
        raise UserError(f"data.groups: data.example=series takes CTP alone, not {', '.join(data.channels)}")
    series = _image(study, "CTP")
    head = _heads({"CTP": series.mean(axis=0)}, layout)["CTP"]
    times = _weights(series.shape[0], data.depth)
    series = np.moveaxis((times @ series.reshape(len(series), -1)).reshape(data.depth, *head.shape), 0, -1)
    return _normalise(series, head, data, layout, "CTP"), head


def _image(study: Study, word: str) -> np.ndarray:
    if word not in study.images:
        raise UserError(f"study {study.case.study}: {word} was not read; it has {', '.join(study.images) or 'none'}")
    return study.images[word]


def head_of(planes: dict[str, np.ndarray], layout: Layout) -> np.ndarray:
    """The (D, H, W) head of a study: the union of its images' heads."""
    return np.logical_or.reduce(list(_heads(planes, layout).values()))


def _heads(planes: dict[str, np.ndarray], layout: Layout) -> dict[str, np.ndarray]:
    """The head in each image, (D, H, W) bool, holes filled.

    The images that are 0 around the head share one: where any of them is not 0, since maps (Tmax is one) may be 0
    inside as well.  Where noise surrounds the head in every image, the head stands out from that noise.  An image in
    Hounsfield units has a head of its own, above air, or above what fills the slice's border.
    """
    maps = {word: image for word, image in planes.items() if word not in layout.hounsfield}
    noise = {word: float(np.median(np.abs(_border(image)))) for word, image in maps.items()}
    clean = [image != 0 for word, image in maps.items() if not noise[word]]
    shared = clean or [_above_noise(image, noise[word]) for word, image in maps.items()]
    head = _filled(np.logical_or.reduce(shared)) if shared else None
    return {
        word: _filled(_above_background(image)) if head is None or word in layout.hounsfield else head
        for word, image in planes.items()
    }


def _border(image: np.ndarray) -> np.ndarray:
    """(D, H, W) to (D, n): the outermost pixels of each slice."""
    return np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)


def _above_noise(image: np.ndarray, noise: float) -> np.ndarray:
    """The largest connected part above three times the border's median: one in 500 pixels of Rayleigh noise is."""
    above = ndimage.binary_opening(image > 3 * noise, np.ones((1, 3, 3)))
    parts, count = ndimage.label(above)  # type: ignore[misc]
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1 if count else image != 0


def _above_background(image: np.ndarray) -> np.ndarray:
    background = np.median(_border(image), axis=1)[:, None, None]
    above = image > np.maximum(background + 10, _AIR_BELOW_HU)
    # A filling near the values of tissue (0, say) is told only by being the very same value everywhere.
    return np.where(background < -10, above, image != background)


def _filled(head: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(ndimage.binary_fill_holes(plane)) for plane in head])


def _normalise(image: np.ndarray, head: np.ndarray, data: Data, layout: Layout, word: str) -> np.ndarray:
    """Normalises (D, H, W[, T]) inside the head and sets the rest to 0.

    median_iqr: (x - median) / IQR of each slice;  zscore: (x - mean) / sd of the volume, both clipped to +-8;
    window: the layout's (low, high) of the modality to 0..1, clipped.  A spread of 0 counts as 1.  A modality's own
    way (`data.normalise_of`) stands above the one for all: over a CT's skull and brain together the brain is flat.
    """
    result = np.zeros(image.shape, np.float32)
    how = data.normalisation(word)
    if how == "window":
        if word not in layout.windows:
            field = f"normalise_of.{word}" if word in data.normalise_of else "normalise"
            raise UserError(f"data.{field}=window: {word} has no fixed physical window; use median_iqr or zscore")
        low, high = layout.windows[word]
        result[head] = np.clip((image[head] - low) / (high - low), 0, 1)
        return result
    regions = [np.s_[:]] if how == "zscore" else [np.s_[index : index + 1] for index in range(len(image))]
    for region in regions:
        inside = head[region]
        if inside.any():
            values = image[region][inside].astype(np.float64)
            result[region][inside] = np.clip(_standardised(values, how), -CLIP, CLIP)
    return result


def _standardised(values: np.ndarray, how: str) -> np.ndarray:
    if how == "zscore":
        return (values - values.mean()) / (values.std() or 1.0)
    low, median, high = np.percentile(values, (25, 50, 75))
    return (values - median) / ((high - low) or 1.0)


# --- masks -----------------------------------------------------------------------------------------------------------


def _stacked_masks(study: Study, data: Data, shape: tuple[int, ...]) -> np.ndarray:
    """(D, H, W, K) uint8 in the order of `data.targets`; without channels where the study was read without masks."""
    if not study.masks:
        return np.zeros((*shape, 0), np.uint8)
    missing = [word for word in data.targets if word not in study.masks]
    if missing:
        raise study.case.without("mask", missing[0], study.masks)
    return np.stack([study.masks[word] for word in data.targets], axis=-1)


def signed_distance(masks: np.ndarray) -> np.ndarray:
    """Signed Euclidean distance to the mask's boundary in each slice, in pixels.

    Outside, the distance d to the nearest mask pixel; inside, -(d - 1) with d the distance to the nearest pixel
    outside, so that the boundary's own pixels are 0 (Kervadec et al., Medical Image Analysis 67, 101851).  It is 0
    everywhere in a slice whose mask is empty, and in one whose mask is full.

    Args:
      masks: (D, H, W, K) of 0 and 1.

    Returns:
      (D, H, W, K) float32.
    """
    distance = np.zeros(masks.shape, np.float32)
    drawn = np.argwhere(masks.any(axis=(1, 2)) & ~masks.all(axis=(1, 2)))
    for index, target in drawn:
        inside = masks[index, :, :, target] > 0
        within, outside = (np.asarray(ndimage.distance_transform_edt(part)) for part in (inside, ~inside))
        distance[index, :, :, target] = outside - np.maximum(within - 1, 0)
    return distance


# --- geometry --------------------------------------------------------------------------------------------------------


def _plan(head: np.ndarray, spacing_mm: tuple[float, float, float], data: Data) -> Inverse:
    """Decides the resampled shape, what is kept of it and how it is padded."""
    native = (head.shape[1], head.shape[2])
    size = (data.size, data.size)
    if data.spacing_mm is None:
        return Inverse(native, size, (0, data.size, 0, data.size), (0, 0), size)
    rows, columns = native[0] * spacing_mm[1], native[1] * spacing_mm[2]
    resampled = max(1, round(rows / data.spacing_mm)), max(1, round(columns / data.spacing_mm))
    margin = int(np.ceil(_MARGIN_MM / data.spacing_mm))
    top, bottom = _extent(np.asarray(head.any(axis=(0, 2))), resampled[0], margin)
    left, right = _extent(np.asarray(head.any(axis=(0, 1))), resampled[1], margin)
    kept = (bottom - top, right - left)
    prepared = max(kept[0], data.size), max(kept[1], data.size)
    pad = (prepared[0] - kept[0]) // 2, (prepared[1] - kept[1]) // 2
    return Inverse(native, resampled, (top, bottom, left, right), pad, prepared)


def _extent(occupied: np.ndarray, resampled: int, margin: int) -> tuple[int, int]:
    """First and last row (or column) of the head on the resampled plane, with a margin; all of it without a head."""
    where = np.flatnonzero(occupied)
    if not where.size:
        return 0, resampled
    scale = resampled / occupied.size
    first, last = int(np.floor(where[0] * scale)), int(np.ceil((where[-1] + 1) * scale))
    return max(0, first - margin), min(resampled, last + margin)


def _to_prepared(values: np.ndarray, inverse: Inverse) -> np.ndarray:
    top, bottom, left, right = inverse.box
    kept = _resample(values, inverse.resampled)[:, top:bottom, left:right]
    result = np.zeros((kept.shape[0], *inverse.prepared, kept.shape[3]), values.dtype)
    result[:, inverse.pad[0] : inverse.pad[0] + bottom - top, inverse.pad[1] : inverse.pad[1] + right - left] = kept
    return result


def _resample(values: np.ndarray, plane: tuple[int, int]) -> np.ndarray:
    """(D, H, W, C) to (D, *plane, C), linear along columns and rows; the very same values where nothing changes."""
    if values.shape[1:3] == plane:
        return values
    # Each axis in turn goes last, so that it is one large matrix product: many small ones are slow on many threads.
    stack = values.transpose(0, 3, 1, 2)
    stack = _resample_last(stack, plane[1]).swapaxes(2, 3)
    stack = _resample_last(stack, plane[0])
    return np.ascontiguousarray(stack.transpose(0, 3, 2, 1))


def _resample_last(stack: np.ndarray, after: int) -> np.ndarray:
    before = stack.shape[-1]
    if before == after:
        return stack
    flat = np.ascontiguousarray(stack).reshape(-1, before) @ _weights(before, after).T
    return flat.reshape(*stack.shape[:-1], after)


@functools.lru_cache(maxsize=64)
def _weights(before: int, after: int) -> np.ndarray:
    """(after, before) weights of linear interpolation between pixel centres; rows sum to 1, edges are held.

    When shrinking by more than 1.5 the triangle is widened by the factor, which takes out what the coarser grid
    cannot show.
    """
    scale = before / after
    reach = scale if scale > _ANTIALIAS_ABOVE else 1.0
    centre = (np.arange(after) + 0.5) * scale - 0.5
    centre = np.clip(centre, 0, before - 1) if reach == 1.0 else centre
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(before) - centre[:, None]) / reach)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights.setflags(write=False)
    return weights
