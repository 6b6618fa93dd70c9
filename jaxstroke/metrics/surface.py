"""How far two masks' surfaces lie apart, in millimetres.

A surface voxel is a voxel of the mask with a face neighbour outside it (the mask minus its 6-connected erosion);
voxels at the edge of the array count as surface.  With S_P and S_G the surface voxels and d the distance between
voxel centres, the directed distances are

    D_PG = { min over g in S_G of d(p, g) : p in S_P }      D_GP = { min over p in S_P of d(g, p) : g in S_G }

"HD95" has no single definition.  Here it is max(P95(D_PG), P95(D_GP)), as in MONAI; MedPy's is
P95(D_PG and D_GP together).  Percentiles interpolate linearly.

Both masks empty: 0.  Exactly one empty: NaN ("undefined"), which summaries count.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import edt
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from jaxstroke.errors import UserError
from jaxstroke.metrics.overlap import Mask, as_masks, crop_to_union, voxel_ml

Distances = NDArray[np.float32]
_MAP_VOXELS_PER_POINT = 60  # that a distance map goes through in the time in which a tree finds a point's neighbour


def surface_voxels(mask: Mask) -> Mask:
    """The mask minus its erosion by face neighbours; beyond the array's edge there is background."""
    interior = mask.copy()
    for axis in range(mask.ndim):
        along, inner = np.moveaxis(mask, axis, 0), np.moveaxis(interior, axis, 0)  # views, so `interior` is written
        inner[1:] &= along[:-1]
        inner[:-1] &= along[1:]
        inner[[0, -1]] = False
    return mask & ~interior


def directed_distances_mm(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]
) -> tuple[Distances, Distances]:
    """Distances from each surface voxel of one mask to the nearest one of the other: (prediction to reference, back).

    Neither mask may be empty.
    """
    first, second = crop_to_union(*as_masks(prediction, reference))
    if len(spacing_mm) != first.ndim:
        raise UserError(f"spacing {tuple(spacing_mm)} mm for masks of {first.ndim} axes: give one edge for each axis")
    voxel_ml(spacing_mm)  # refuses edges that are no positive numbers
    first, second = surface_voxels(first), surface_voxels(second)
    voxels = np.count_nonzero(first) + np.count_nonzero(second)
    if voxels * _MAP_VOXELS_PER_POINT < first.size:  # few and far apart: a tree of points is sooner than a map
        points = [np.argwhere(mask) * np.asarray(spacing_mm, np.float64) for mask in (first, second)]
        return _of_points(points[0], points[1]), _of_points(points[1], points[0])
    return _to_nearest(second, first, spacing_mm), _to_nearest(first, second, spacing_mm)


def _of_points(points: NDArray[np.float64], others: NDArray[np.float64]) -> Distances:
    tree = KDTree(others, compact_nodes=False, balanced_tree=False)  # built sooner, and asked only once
    return tree.query(points)[0].astype(np.float32)


def hd95_mm(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]) -> float:
    """The 95th percentile Hausdorff distance: the larger of the two directed percentiles.

    >>> hd95_mm([[[1, 0, 0, 0]]], [[[0, 0, 0, 1]]], spacing_mm=(5.0, 2.0, 2.0))
    6.0
    """
    prediction, reference = as_masks(prediction, reference)
    without = _with_empty(prediction, reference)
    return _hd95_mm(directed_distances_mm(prediction, reference, spacing_mm)) if without is None else without


def _hd95_mm(directed: tuple[Distances, Distances]) -> float:
    return max(float(np.percentile(distances, 95)) for distances in directed)


@dataclasses.dataclass(frozen=True)
class SurfaceScores:
    """Attributes:
    hd95_mm: see above.
    average_surface_distance_mm: (sum D_PG + sum D_GP) / (|S_P| + |S_G|).
    surface_dice: share of both surfaces that lies within a tolerance of the other,
      (|D_PG <= t| + |D_GP <= t|) / (|S_P| + |S_G|).  Surface voxels are counted, not weighted by their area.  Both
      masks empty 1, exactly one empty 0: none of its surface is near.
    """

    hd95_mm: float
    average_surface_distance_mm: float
    surface_dice: float


def surface_scores(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float], *, tolerance_mm: float
) -> SurfaceScores:
    """The three scores of surfaces from one pair of distance maps."""
    prediction, reference = as_masks(prediction, reference)
    without = _with_empty(prediction, reference)
    if without is not None:
        return SurfaceScores(without, without, _surface_dice_with_empty(without))
    directed = directed_distances_mm(prediction, reference, spacing_mm)
    return SurfaceScores(
        _hd95_mm(directed),
        float(np.concatenate(directed).mean(dtype=np.float64)),
        _share_within(directed, tolerance_mm),
    )


def _share_within(directed: tuple[Distances, Distances], tolerance_mm: float) -> float:
    near = sum(np.count_nonzero(distances <= tolerance_mm) for distances in directed)
    return near / sum(distances.size for distances in directed)


def _surface_dice_with_empty(distance: float) -> float:
    return 0.0 if math.isnan(distance) else 1.0


def _with_empty(prediction: Mask, reference: Mask) -> float | None:
    """What every surface distance is worth where a mask has no surface; None where both have one."""
    found = prediction.any(), reference.any()
    if all(found):
        return None
    return math.nan if any(found) else 0.0


def _to_nearest(surface: Mask, voxels: Mask, spacing_mm: Sequence[float]) -> Distances:
    """For each of `voxels`, in array order, the distance to the nearest voxel of `surface`, in millimetres."""
    squared = edt.edtsq(np.ascontiguousarray(~surface), anisotropy=tuple(float(edge) for edge in spacing_mm))
    return np.sqrt(squared[voxels])  # the root of a few voxels only
