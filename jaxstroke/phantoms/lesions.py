"""Lesions: where an artery's flow fails, how much tissue dies there, and what lies around it.

A lesion is a sublevel set of a cost that grows with the distance from a seed, is torn by noise at two scales, and
rises steeply where the artery's territory ends.  The core is the cheapest tissue of the wanted volume, the penumbra
and the belt of benign oligemia are the next cheapest, so that core lies inside penumbra with irregular edges.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxstroke.phantoms.anatomy import ACA, INFRATENTORIAL, MCA, PCA, Anatomy
from jaxstroke.phantoms.fields import Field, sigmoid

KINDS = ("branch", "deep", "border_zone", "lacune", "posterior", "anterior")
_KIND_ODDS = (0.52, 0.13, 0.13, 0.06, 0.10, 0.06)
_EDGE_MM = 1.0  # over how many mm of cost the tissue state changes


@dataclasses.dataclass(frozen=True)
class Lesion:
    """Membership of 0 to 1 for each voxel of a grid, (D, H, W) float32; core is part of penumbra, and so on."""

    core: np.ndarray
    penumbra: np.ndarray
    oligemia: np.ndarray
    drawn: np.ndarray  # bool: what diffusion imaging shows later, the reference segmentation


def draw_volume_ml(rng: np.random.Generator, *, median: float, spread: float, low: float, high: float) -> float:
    """A log-normal volume, `spread` being the standard deviation of its logarithm."""
    return float(np.clip(median * np.exp(spread * rng.standard_normal()), low, high))


def draw_kind(rng: np.random.Generator, volume_ml: float) -> str:
    odds = np.array(_KIND_ODDS)
    odds[KINDS.index("lacune")] *= volume_ml < 3.0
    if volume_ml > 40.0:  # only the middle cerebral artery feeds so much
        odds[1:] = 0.0
    return KINDS[int(rng.choice(len(KINDS), p=odds / odds.sum()))]


def grow(
    rng: np.random.Generator,
    anatomy: Anatomy,
    voxel_ml: float,
    *,
    volume_ml: float,
    penumbra_ml: float,
    kind: str,
    side: int,
    aim: slice = slice(None),
    drift: float = 0.0,
) -> Lesion | None:
    """Grows one lesion about a seed in the slices `aim`; None where these hold no place for its kind.

    `drift` is how far the reference, drawn on a later image, departs from the core: the standard deviation of the
    logarithm of its volume, and half of it, in radii, that of its edge.
    """
    room = (anatomy.side == side) & (anatomy.tissue > 0.5)
    places = _places(anatomy, kind) & room
    aimed = np.zeros(places.shape, bool)
    aimed[aim] = places[aim]
    candidates = np.flatnonzero(aimed)
    noise = Field.draw(rng, 7.0), Field.draw(rng, 2.5), Field.draw(rng, 4.0)
    pick = rng.random()
    if candidates.size == 0:
        return None
    seed = candidates[int(pick * candidates.size)]
    radius_mm = 10.0 * (volume_ml * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
    cost = _cost(anatomy, kind, seed, radius_mm, noise)
    allowed = (anatomy.side == side) & anatomy.inside & (anatomy.ventricle < 0.5)
    growth = float(np.clip(np.exp(drift * rng.standard_normal()), 0.6, 1.7))
    around_ml = volume_ml + penumbra_ml
    volumes_ml = (volume_ml, growth * volume_ml, around_ml, around_ml + 1.2 * penumbra_ml + 5.0)
    core_cost, drawn_cost, penumbra_cost, oligemia_cost = _levels(cost[allowed], [v / voxel_ml for v in volumes_ml])
    torn = 0.5 * drift * radius_mm * noise[2].at(anatomy.positions) if drift else 0.0
    drawn = allowed & (cost + torn < drawn_cost)
    wide = cost + 0.35 * radius_mm * noise[2].at(tuple(0.4 * axis for axis in anatomy.positions))  # pyright: ignore[reportArgumentType]
    wide = np.minimum(wide, cost + 3.0)
    edge = _EDGE_MM
    return Lesion(
        core=sigmoid((core_cost - cost) / edge) * allowed,
        penumbra=np.maximum(sigmoid((penumbra_cost - wide) / edge), sigmoid((core_cost - cost) / edge)) * allowed,
        oligemia=sigmoid((oligemia_cost - wide) / (3 * edge)) * allowed,
        drawn=drawn,
    )


def shower(
    rng: np.random.Generator, anatomy: Anatomy, spacing_mm: tuple[float, float, float], count: int
) -> np.ndarray:
    """Emboli: the membership of `count` small lesions in cortex and border zones, most of them on one side."""
    favoured = anatomy.inside & (anatomy.tissue > 0.6) & ((anatomy.border_zone < 8.0) | (anatomy.brain_depth < 12.0))
    candidates = np.flatnonzero(favoured)
    main_side = int(rng.choice((-1, 1)))
    sides = anatomy.side.reshape(-1)
    noise = Field.draw(rng, 2.5).at(anatomy.positions)
    membership = np.zeros_like(anatomy.grey)
    for _ in range(count):
        seed = int(candidates[int(rng.random() * candidates.size)])
        if sides[seed] != main_side and rng.random() < 0.6:
            seed = int(candidates[int(rng.random() * candidates.size)])
        radius = float(np.clip(np.exp(rng.normal(0.9, 0.4)), 1.5, 7.0))
        middle = np.unravel_index(seed, membership.shape)
        box = tuple(
            slice(max(int(m) - int(1.6 * radius / mm) - 1, 0), int(m) + int(1.6 * radius / mm) + 2)
            for m, mm in zip(middle, spacing_mm, strict=True)
        )
        squared = sum((axis[box] - axis[middle]) ** 2 for axis in anatomy.positions)
        blob = sigmoid((radius - np.sqrt(squared) + 0.3 * radius * noise[box]) / 0.6)
        membership[box] = np.maximum(membership[box], blob)
    return membership * (anatomy.inside & (anatomy.ventricle < 0.5))


def _levels(costs: np.ndarray, counts: list[float]) -> list[float]:
    """For each count, the cost below which so many voxels lie (at most 85 % of a hemisphere)."""
    last = max(int(0.85 * costs.size) - 1, 0)
    ranks = [min(max(round(count) - 1, 0), last) for count in counts]
    ordered = np.partition(costs, sorted(set(ranks)))
    return [float(ordered[rank]) for rank in ranks]


def _places(anatomy: Anatomy, kind: str) -> np.ndarray:
    territory, x, y, z = anatomy.territory, *anatomy.positions
    supratentorial = anatomy.brain_depth > 4.0
    if kind == "branch":
        return supratentorial & (territory == MCA) & (anatomy.brain_depth < 30.0)
    if kind == "deep":
        return (np.abs(np.abs(x) - 27) < 9) & (np.abs(y - 4) < 20) & (z > -12) & (z < 32) & (territory == MCA)
    if kind == "border_zone":
        return supratentorial & (anatomy.border_zone < 4.0) & (territory != INFRATENTORIAL)
    if kind == "lacune":
        return (anatomy.brain_depth > 18.0) & (anatomy.ventricle_distance > 2.0)
    if kind == "posterior":
        return supratentorial & ((territory == PCA) | (territory == INFRATENTORIAL))
    return supratentorial & (territory == ACA)


def _cost(anatomy: Anatomy, kind: str, seed: int, radius_mm: float, noise: tuple[Field, Field, Field]) -> np.ndarray:
    x, y, z = anatomy.positions
    centre = tuple(float(axis.reshape(-1)[seed]) for axis in np.broadcast_arrays(x, y, z))
    # Branches fan out towards the surface: distance counts less along the line from the centre of the head.
    outward = np.array([centre[0], centre[1], 0.5 * centre[2]])
    outward /= np.linalg.norm(outward) + 1e-6
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    along = outward[0] * dx + outward[1] * dy + outward[2] * dz
    squared = dx * dx + dy * dy + dz * dz
    stretch = 0.45 if kind == "branch" else 0.1
    distance = np.sqrt(np.maximum(squared - stretch * along * along, 0.0))
    cost = distance + radius_mm * (0.28 * noise[0].at(anatomy.positions) + 0.13 * noise[1].at(anatomy.positions))
    if kind == "border_zone":
        return 0.6 * cost + 1.2 * anatomy.border_zone
    if kind != "lacune":
        home = int(anatomy.territory.reshape(-1)[seed])
        foreign = anatomy.territory != home
        cost = cost + foreign * np.minimum(1.5 * anatomy.border_zone + 1.0, 30.0)
    return cost.astype(np.float32)
