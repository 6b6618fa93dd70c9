"""Smooth random fields in space, and where the voxels of a grid lie."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

Positions = tuple[np.ndarray, np.ndarray, np.ndarray]  # x to the right, y to the front, z upward; (D, H, W), mm

_LATTICE = 64


@dataclasses.dataclass(frozen=True)
class Field:
    """A stationary Gaussian field of mean 0 and standard deviation 1, periodic after 64 nodes.

    Attributes:
      values: (64, 64, 64) node values.
      node_mm: distance between nodes.
    """

    values: np.ndarray
    node_mm: float

    @classmethod
    def draw(cls, rng: np.random.Generator, length_mm: float) -> Field:
        """White noise smoothed by a Gaussian of standard deviation `length_mm`: zeros lie about 4.4 lengths apart."""
        values = rng.standard_normal((_LATTICE,) * 3, dtype=np.float32)
        values = ndimage.gaussian_filter(values, 1.2, mode="wrap", truncate=3.0)
        return cls((values - values.mean()) / values.std(), length_mm / 1.2)

    def at(self, positions: Positions) -> np.ndarray:
        """The field in these places.

        Over a grid (D, H, W) it is looked up at every few rows and columns, as far apart as its smoothness allows,
        and interpolated linearly between them, as it is between its own nodes.
        """
        if positions[0].ndim != 3:
            return self._look_up(positions)
        rows, columns = (self._stations(positions, axis) for axis in (1, 2))
        values = self._look_up(tuple(axis[:, rows][:, :, columns] for axis in positions))  # pyright: ignore
        return _between(_between(values, rows, 1, positions[0].shape[1]), columns, 2, positions[0].shape[2])

    def _look_up(self, positions: Positions) -> np.ndarray:
        coordinates = [axis / np.float32(self.node_mm) for axis in positions]
        return ndimage.map_coordinates(self.values, coordinates, order=1, mode="grid-wrap", output=np.float32)

    def _stations(self, positions: Positions, axis: int) -> np.ndarray:
        size = positions[0].shape[axis]
        middle = [length // 2 for length in positions[0].shape]
        beside = [m - (i == axis) for i, m in enumerate(middle)]
        step_mm = np.sqrt(sum(float(p[tuple(middle)] - p[tuple(beside)]) ** 2 for p in positions))
        stride = max(1, round(0.7 * self.node_mm / max(step_mm, 1e-3)))
        return np.unique(np.append(np.arange(0, size, min(stride, size)), size - 1))


def _between(values: np.ndarray, stations: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Linear interpolation along one axis from stations to all of 0 ... size - 1."""
    if stations.size == size:
        return values
    position = np.interp(np.arange(size), stations, np.arange(stations.size))
    low = np.minimum(position.astype(np.intp), stations.size - 2)
    shape = [1, 1, 1]
    shape[axis] = size
    weight = (position - low).astype(np.float32).reshape(shape)
    below = np.take(values, low, axis=axis)
    return below + weight * (np.take(values, low + 1, axis=axis) - below)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The grid of an image: voxel (d, h, w) lies at `affine @ (w, h, d, 1)` in the head's coordinates."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        width, height, depth = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(depth), float(height), float(width)

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000.0

    def positions(self) -> Positions:
        d, h, w = (np.arange(n, dtype=np.float32) for n in self.shape)
        affine = self.affine.astype(np.float32)
        return tuple(
            affine[i, 0] * w[None, None, :]
            + affine[i, 1] * h[None, :, None]
            + affine[i, 2] * d[:, None, None]
            + affine[i, 3]
            for i in range(3)
        )  # pyright: ignore[reportReturnType]

    def cropped(self, box: tuple[slice, slice, slice]) -> Sampling:
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [box[2].start, box[1].start, box[0].start]
        return Sampling(tuple(s.stop - s.start for s in box), affine)  # pyright: ignore[reportArgumentType]


def centred(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    *,
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    to_left: bool = False,
) -> Sampling:
    """A grid whose middle lies at `centre_mm` (x, y, z), tilted by rotations about x, y and z."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        rotation = one @ rotation
    depth, height, width = spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-width if to_left else width, height, depth])
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.asarray(shape[::-1]) - 1) / 2)
    return Sampling(shape, affine)


def ramp(distance_mm: np.ndarray, width_mm: float = 1.0) -> np.ndarray:
    """0 outside, 1 inside, linear across an edge of `width_mm`: the partial volume of a plane edge."""
    return np.clip(distance_mm / np.float32(width_mm) + np.float32(0.5), 0.0, 1.0)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -30.0, 30.0)))
