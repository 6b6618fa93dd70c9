"""What the MR layouts share: a patient with acute and old disease, sampled on a diffusion grid."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from jaxstroke.phantoms import diffusion, lesions
from jaxstroke.phantoms.anatomy import Anatomy, Head
from jaxstroke.phantoms.fields import Positions, Sampling

_MAX_EMBOLI = 45


@dataclasses.dataclass(frozen=True)
class Patient:
    """One head on one grid, with its lesions; memberships are (D, H, W) of 0 to 1."""

    head: Head
    grid: Sampling
    anatomy: Anatomy
    acute: np.ndarray
    halo: np.ndarray  # about the acute lesion: tissue at risk
    old: np.ndarray
    stage: diffusion.Stage

    def carried_to(self, membership: np.ndarray, positions: Positions) -> np.ndarray:
        """A membership looked up at other places, by linear interpolation."""
        inverse = np.linalg.inv(self.grid.affine).astype(np.float32)
        x, y, z = positions
        w, h, d = (inverse[i, 0] * x + inverse[i, 1] * y + inverse[i, 2] * z + inverse[i, 3] for i in range(3))
        return ndimage.map_coordinates(membership, [d, h, w], order=1, output=np.float32)


def draw(rng: np.random.Generator, grid: Sampling, *, with_stroke: bool, median_ml: float, spread: float) -> Patient:
    """Draws a patient: one territorial lesion, emboli, or both; old infarcts in some."""
    head = Head.draw(rng)
    anatomy = head.at(grid.positions())
    acute, halo, old = np.zeros((3, *grid.shape), np.float32)
    if with_stroke:
        volume = lesions.draw_volume_ml(rng, median=median_ml, spread=spread, low=0.1, high=450.0)
        kind, side = lesions.draw_kind(rng, volume), int(rng.choice((-1, 1)))
        emboli = int(min(rng.geometric(0.12), _MAX_EMBOLI)) if rng.random() < 0.4 else 0
        if not emboli or rng.random() < 0.7:
            sides = (side, -side) if volume > 250.0 else (side,)
            for one_side in sides:
                one = lesions.grow(
                    rng, anatomy, grid.voxel_ml, volume_ml=volume / len(sides), penumbra_ml=0.4 * volume + 1.0,
                    kind=kind, side=one_side,
                )  # fmt: skip
                if one is not None:
                    acute, halo = np.maximum(acute, one.core), np.maximum(halo, one.penumbra)
        if emboli:
            acute = np.maximum(acute, lesions.shower(rng, anatomy, grid.spacing_mm, emboli))
    if rng.random() < 0.4:
        volume = lesions.draw_volume_ml(rng, median=5.0, spread=1.0, low=0.3, high=60.0)
        one = lesions.grow(
            rng, anatomy, grid.voxel_ml, volume_ml=volume, penumbra_ml=1.0,
            kind=str(rng.choice(("branch", "lacune", "posterior"))), side=int(rng.choice((-1, 1))),
        )  # fmt: skip
        if one is not None:
            old = one.core * (1 - acute)
    return Patient(head, grid, anatomy, acute, np.maximum(halo, acute), old, diffusion.Stage.draw(rng))
