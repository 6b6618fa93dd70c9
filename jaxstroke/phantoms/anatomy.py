"""A procedural head: skull, folded cortex, white matter, ventricles, deep grey matter, arterial territories.

A head is a function of position in mm, not an array, so that one head can be looked at on any grid: two slabs of
one patient, or diffusion images and a FLAIR with other slices.  Shapes are ellipsoids in coordinates warped by
smooth noise.  Sulci are the sheets where a band-limited field of the direction from the centre is zero; the cortex
is what lies within 3 mm of the surface or of a sulcus.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxstroke.phantoms.fields import Field, Positions, ramp

ACA, MCA, PCA, INFRATENTORIAL = 1, 2, 3, 4

_FOLD_MM = 3.6  # correlation length of the folding field; neighbouring sulci lie about 13 mm apart
_FOLD_SLOPE = 1.6 / (np.sqrt(2.0) * _FOLD_MM)  # mean gradient of that field, per mm
_CORTEX_MM = 3.0

# Centre (|x|, y, z) and half axes, mm.
_VENTRICLES = (
    ((9, 24, 13), (5, 17, 9)),
    ((12, -2, 19), (6.5, 25, 7)),
    ((23, -32, 9), (7, 16, 10)),
    ((0, -4, 1), (2.5, 12, 9)),
)
_DEEP_GREY = (((12, -10, 4), (8, 13, 9)), ((16, 18, 12), (4.5, 10, 9)), ((27, 4, 3), (6, 17, 10)))
# Where the branches of each artery feed the brain; the nearest branch, by weighted distance, owns a voxel.
_BRANCHES = {
    ACA: ((5, 62, 5), (5, 52, 28), (5, 30, 48), (5, 0, 55), (5, -25, 52)),
    MCA: ((48, 30, 8), (56, 5, 12), (54, -22, 18), (28, 6, 4), (44, -5, 40), (48, -40, 25), (48, 5, -26)),
    PCA: ((12, -78, 0), (12, -68, 24), (18, -45, -8), (34, -62, 0), (12, -10, 2), (32, -30, -26)),
}
_REACH = {ACA: 0.85, MCA: 1.15, PCA: 0.9}


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """What lies in each voxel of a grid: fractions of 0 to 1, distances in mm; all (D, H, W) float32."""

    positions: Positions
    grey: np.ndarray
    white: np.ndarray
    sulcal_fluid: np.ndarray
    ventricle: np.ndarray
    vessel: np.ndarray
    skull: np.ndarray
    soft: np.ndarray  # scalp, and what lies below the brain
    brain_depth: np.ndarray  # below the brain's hull; negative outside
    ventricle_distance: np.ndarray
    territory: np.ndarray  # int8: 0 outside the brain
    border_zone: np.ndarray  # how much nearer the nearest artery is than the second, mm: small in a border zone
    white_matter_disease: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """The brain with its sulci and ventricles."""
        return self.brain_depth > 0

    @property
    def tissue(self) -> np.ndarray:
        return self.grey + self.white

    @property
    def side(self) -> np.ndarray:
        """+1 right, -1 left."""
        return np.where(self.positions[0] >= 0, 1, -1).astype(np.int8)


@dataclasses.dataclass(frozen=True)
class Head:
    scale: tuple[float, float, float]
    atrophy: float  # 0 young to 1 old: wide sulci and ventricles
    white_matter_disease: float  # 0 none to 1 confluent
    warp: tuple[Field, Field, Field]
    folds: Field
    texture: Field
    vessels: Field

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Head:
        return cls(
            scale=tuple(rng.normal(1.0, 0.03, 3)),
            atrophy=float(rng.beta(2.0, 2.0)),
            white_matter_disease=float(rng.beta(1.2, 2.5)),
            warp=(Field.draw(rng, 28.0), Field.draw(rng, 28.0), Field.draw(rng, 28.0)),
            folds=Field.draw(rng, _FOLD_MM),
            texture=Field.draw(rng, 6.0),
            vessels=Field.draw(rng, 4.0),
        )

    def at(self, positions: Positions) -> Anatomy:
        """Looks at the head in these places."""
        x, y, z = self._standard(positions)
        across = np.abs(x)
        depth, radius, supratentorial = _hull(x, y, z, self.atrophy)
        surface = self._distance_to_surface(x, y, z, depth, radius)
        fluid_mm = 0.2 + 1.1 * self.atrophy
        ventricle_mm = _union(_VENTRICLES, across, y, z, 0.75 + 0.6 * self.atrophy)
        vault = _ellipsoid(x, y, np.where(z > 0, z, 0.3 * z), (70.0, 87.0, 74.0))
        vault = np.maximum(vault, depth + 2.5)  # bone wraps whatever bulges
        inside = ramp(depth)
        ventricle = ramp(ventricle_mm) * inside
        near_brain = ramp(depth + 8.0)
        gap = np.maximum(ramp(fluid_mm - surface), 1 - inside) * ramp(vault) * near_brain
        fluid = gap * (1 - ventricle)
        tissue = inside * (1 - ventricle) * (1 - gap)
        grey = np.maximum(ramp(fluid_mm + _CORTEX_MM - surface), ramp(_union(_DEEP_GREY, across, y, z, 1.0))) * tissue
        territory, border = _territories(across, y, z)
        territory = np.where(supratentorial, territory, INFRATENTORIAL) * (depth > 0)
        return Anatomy(
            positions=positions,
            grey=grey,
            white=tissue - grey,
            sulcal_fluid=fluid,
            ventricle=ventricle,
            vessel=fluid * inside * np.clip(self.vessels.at((x, y, z)) - 0.9, 0, 1),
            skull=ramp(-vault) * ramp(vault + 8.0),
            soft=ramp(-vault - 8.0) * ramp(vault + 13.0) + ramp(vault) * (1 - near_brain),
            brain_depth=depth,
            ventricle_distance=-ventricle_mm,
            territory=territory.astype(np.int8),
            border_zone=border,
            white_matter_disease=self._disease(x, y, z, -ventricle_mm) * (tissue - grey),
        )

    def _standard(self, positions: Positions) -> Positions:
        """From this head's coordinates to those in which the shapes are defined."""
        warped = []
        for axis, field, scale, amplitude in zip(positions, self.warp, self.scale, (2.0, 2.5, 2.5), strict=True):
            warped.append((axis + np.float32(amplitude) * field.at(positions)) / np.float32(scale))
        return tuple(warped)  # pyright: ignore[reportReturnType]

    def _distance_to_surface(self, x, y, z, depth, radius) -> np.ndarray:
        """Distance to the pial surface, in mm: the hull, a sulcus, the fissure between the hemispheres, or Sylvius'."""
        outward = 0.5 + 0.5 / np.maximum(radius, 0.3)  # folds run inward from the surface
        sulcus = np.abs(self.folds.at((x * outward, y * outward, z * outward))) / np.float32(_FOLD_SLOPE)
        sulcus += 0.6 * np.maximum(depth - 17.0, 0.0)
        between = np.abs(x) + 0.6 * np.maximum(depth - 32.0, 0.0)
        sylvius = np.abs(0.6 * (y - 6.0) + 0.8 * (z - 2.0))
        sylvius += np.maximum(34.0 - np.abs(x), 0) + np.maximum(np.abs(y - 4) - 26, 0)
        return np.minimum(np.minimum(depth, sulcus), np.minimum(between, sylvius - 0.5))

    def _disease(self, x, y, z, from_ventricle_mm) -> np.ndarray:
        """White-matter disease: a rim about the ventricles and patches, in step with its grade."""
        reach = 14.0 * self.white_matter_disease - 2.0
        return ramp(reach - from_ventricle_mm + 5.0 * self.texture.at((x, y, z)), 3.0)


def _ellipsoid(x, y, z, half_axes) -> np.ndarray:
    """Approximate distance inside an ellipsoid, mm; negative outside."""
    a, b, c = (np.float32(axis) for axis in half_axes)
    u, v, w = x / a, y / b, z / c
    norm = np.sqrt(u * u + v * v + w * w) + np.float32(1e-6)
    u, v, w = u / a, v / b, w / c
    return norm * (1 - norm) / (np.sqrt(u * u + v * v + w * w) + np.float32(1e-6))


def _union(ellipsoids, across, y, z, scale: float) -> np.ndarray:
    distance = None
    for (cx, cy, cz), axes in ellipsoids:
        one = _ellipsoid(across - cx, y - cy, z - cz, [axis * scale for axis in axes])
        distance = one if distance is None else np.maximum(distance, one)
    assert distance is not None
    return distance


def _hull(x, y, z, atrophy: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth below the brain's hull; the radius as a fraction of the cerebrum's; whether above the tentorium."""
    shrink = 1.0 - 0.02 * atrophy
    width = 67.0 * shrink * (1.0 - 0.09 * np.clip(y, -85, 85) / 85.0)
    up = z - 8.0
    height = np.where(up > 0, np.float32(60.0), np.float32(34.0)) * np.float32(shrink)
    length = np.float32(84.0 * shrink)
    radius = np.sqrt((x / width) ** 2 + (y / length) ** 2 + (up / height) ** 2) + np.float32(1e-6)
    slope = np.sqrt((x / width**2) ** 2 + (y / length**2) ** 2 + (up / height**2) ** 2) + np.float32(1e-6)
    cerebrum = radius * (1 - radius) / slope
    across = np.abs(x)
    temporal = _ellipsoid(across - 41.0, y - 4.0, z + 26.0, (20.0, 34.0, 18.0))
    stem = _ellipsoid(x, y + 12.0, z + 42.0, (12.0, 13.0, 34.0))
    cerebellum = np.maximum(_ellipsoid(x, y + 41.0, z + 36.0, (50.0, 36.0, 27.0)), stem)
    above = np.maximum(cerebrum, temporal)
    return np.maximum(above, cerebellum), radius, above >= cerebellum


def _territories(across, y, z) -> tuple[np.ndarray, np.ndarray]:
    """The artery whose nearest branch is nearest, and by how many mm."""
    nearest = []
    for artery, branches in _BRANCHES.items():
        squared = None
        for bx, by, bz in branches:
            one = (across - np.float32(bx)) ** 2 + (y - np.float32(by)) ** 2 + (z - np.float32(bz)) ** 2
            squared = one if squared is None else np.minimum(squared, one)
        assert squared is not None
        nearest.append(np.sqrt(squared) / np.float32(_REACH[artery]))
    stacked = np.stack(nearest)
    ordered = np.sort(stacked, axis=0)
    return np.argmin(stacked, axis=0) + ACA, ordered[1] - ordered[0]
