"""The brain without skull and scalp, where an image still has them.

CT by intensity: what is neither air, fat nor bone, cut loose from the scalp by shaving some mm off, is the largest
piece; below the base of the skull what lies against the brain stays with it.  MR by SimpleITK's Otsu threshold and the
same shaving: rough, and no match for a network that was trained for it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from jaxstroke.data.preparation.itk import image_of, simple_itk
from jaxstroke.errors import UserError

_SOFT_HU = (0.0, 100.0)  # brain, fluid and blood
_BONE_HU = 300.0
_BONE_SHARE = 1e-3  # of the voxels; below, a CT has no skull any more
_EMPTY_SHARE = 0.6  # of the voxels are exactly 0 in an MR image that was stripped, and all of its border
_SHAVED_CT_MM, _SHAVED_MR_MM = 3.0, 4.0
_SMALLEST_ML_A_CM = 5.0  # of a brain, for each cm of height that the slices cover


def brain_of(values: np.ndarray, spacing_mm: tuple[float, float, float], *, hounsfield: bool) -> np.ndarray | None:
    """(D, H, W) bool; None where the image was stripped before."""
    if _is_stripped(values, hounsfield=hounsfield):
        return None
    if hounsfield:
        smooth = ndimage.gaussian_filter(values, (0, 1, 1))  # noise would pierce the brain, and be shaved wider
        soft = (smooth >= _SOFT_HU[0]) & (smooth <= _SOFT_HU[1])
        shaved_mm = _SHAVED_CT_MM
    else:
        soft, shaved_mm = _bright(values), _SHAVED_MR_MM
    brain = _largest_piece(soft, spacing_mm, shaved_mm)
    height_cm = len(values) * spacing_mm[0] / 10
    volume_ml = float(brain.sum()) * float(np.prod(spacing_mm)) / 1000
    if volume_ml < _SMALLEST_ML_A_CM * height_cm:
        raise UserError(f"no brain was found below the skull ({volume_ml:.0f} mL); strip it first, or switch it off")
    return brain


def _is_stripped(values: np.ndarray, *, hounsfield: bool) -> bool:
    if hounsfield:
        return float((values > _BONE_HU).mean()) < _BONE_SHARE
    border = np.concatenate([values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1]], axis=1)
    return not border.any() and float((values == 0).mean()) >= _EMPTY_SHARE


def _bright(values: np.ndarray) -> np.ndarray:
    sitk = simple_itk()
    smooth = ndimage.gaussian_filter(values, (0, 1, 1))
    return sitk.GetArrayFromImage(sitk.OtsuThreshold(image_of(smooth, np.eye(4)), 0, 1)) > 0


def _largest_piece(soft: np.ndarray, spacing_mm: tuple[float, float, float], shaved_mm: float) -> np.ndarray:
    """The largest piece that stays in one when `shaved_mm` are taken off, with those put on again and holes filled."""
    core = _distance(soft, spacing_mm) > shaved_mm
    pieces, count = ndimage.label(core)  # type: ignore[misc]
    if not count:
        return np.zeros_like(soft)
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    whole = (_distance(~largest, spacing_mm) <= shaved_mm + min(spacing_mm[1:])) & soft
    return np.stack([np.asarray(ndimage.binary_fill_holes(plane)) for plane in whole])


def _distance(inside: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    if inside.all():
        return np.full(inside.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(inside, sampling=spacing_mm))
