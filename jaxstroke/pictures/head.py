"""The box of the head in a study's arrays, for what is drawn: nothing is computed from it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Study

Box = tuple[slice, slice, slice]
_AIR_BELOW_HU = -200.0


def volumes(study: Study) -> dict[str, np.ndarray]:
    """The images as (D, H, W): of a series over time its mean."""
    return {word: image if image.ndim == 3 else image.mean(axis=0) for word, image in study.images.items()}


def head_box(study: Study, masks: Iterable[np.ndarray], margin_mm: float) -> Box:
    """Slices, rows and columns that hold the head, with a margin in plane; no voxel of a mask lies outside."""
    images = volumes(study)
    hounsfield = find_layout(study.case.layout).hounsfield
    inside = np.zeros(next(iter(images.values())).shape, bool)
    for word, image in images.items():
        inside |= _stands_out(image, hounsfield=word in hounsfield)
    for mask in masks:
        inside |= np.asarray(mask) > 0
    box = []
    for axis, (size, spacing) in enumerate(zip(inside.shape, study.spacing_mm, strict=True)):
        where = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        margin = int(np.ceil(margin_mm / spacing)) if axis else 0
        first, last = (int(where[0]), int(where[-1])) if where.size else (0, size - 1)
        box.append(slice(max(0, first - margin), min(size, last + margin + 1)))
    return box[0], box[1], box[2]


def _stands_out(image: np.ndarray, *, hounsfield: bool) -> np.ndarray:
    """Above air, or well above what the border of the slices shows: 0, a filling, or noise."""
    border = np.concatenate([side.ravel() for side in (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1])])
    background = float(np.median(border))
    if hounsfield:
        return image > _AIR_BELOW_HU if background < _AIR_BELOW_HU else image != background
    spread = float(np.ptp(np.percentile(border, (0.1, 99.9))))
    return np.abs(image - background) > 1.5 * spread
