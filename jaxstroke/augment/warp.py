"""All geometric changes of an example as one field of coordinates, sampled once.

The field tells for each pixel of the result where in the source it comes from.  Going from the result to the source:
grid lines move, an elastic displacement is added, then radial distortion about the centre, then the shift, then
rotation, zoom and flips about the centre.

Sampling: images linear and 0 outside the source, masks nearest and 0 outside, distances linear with the nearest edge
pixel's value outside.  Distances are in pixels and grow with the picture: they are multiplied by the zoom.  This is
exact for rotation, flips, shift and zoom (up to what enters or leaves the picture); the local stretching by the
elastic, grid and optical distortions, which have no net zoom, is left out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxstroke.experiment import Augment

GRID_CELLS = 5  # of the grid distortion, along each axis


class Geometry(NamedTuple):
    """What is done to one example; as it stands, nothing."""

    angle: jax.Array | float = 0.0  # radians, counter-clockwise as displayed with row 0 on top
    zoom: jax.Array | float = 1.0  # above 1 enlarges
    flip: tuple[jax.Array | float, jax.Array | float] = (1.0, 1.0)  # rows (front-back), columns (left-right): -1 flips
    shift: tuple[jax.Array | float, jax.Array | float] = (0.0, 0.0)  # pixels; positive moves the picture down, right
    optical: jax.Array | float = 0.0  # source radius = radius (1 + optical radius^2), 1 at the corners
    grid: tuple[jax.Array, jax.Array] | None = None  # source displacement of each row (H,) and column (W,), pixels
    elastic: tuple[jax.Array, jax.Array] | None = None  # displacement along rows and columns, each (H, W), pixels


def is_on(spec: Augment) -> bool:
    """Whether any geometric change can happen at all."""
    bounds = (spec.rotate_degrees, spec.shift_fraction, spec.elastic_pixels, spec.grid_fraction, spec.optical)
    return spec.flip_left_right or spec.flip_front_back or spec.scale != (1.0, 1.0) or any(bounds)


def random_warp(
    key: jax.Array, images: jax.Array, masks: jax.Array, distance: jax.Array, spec: Augment
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Warps one example at random: images (*lead, H, W, C), masks and distance (*lead, H, W, K)."""
    geometry = draw(key, spec, images.shape[-3], images.shape[-2])
    return apply(geometry, images, masks, distance)


def apply(
    geometry: Geometry, images: jax.Array, masks: jax.Array, distance: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Warps one example by a given geometry; distance is set to 0 on slices that are left without mask."""
    rows, columns = source_coordinates(geometry, images.shape[-3], images.shape[-2])
    images, masks, distance = sample(images, masks, distance, rows, columns)
    lesion = jnp.any(masks > 0, axis=(-3, -2), keepdims=True)
    return images, masks, jnp.where(lesion, distance * geometry.zoom, 0.0)


# --- what is drawn -----------------------------------------------------------------------------------------------


def draw(key: jax.Array, spec: Augment, height: int, width: int) -> Geometry:
    """Draws each change on its own: whether it happens at all, and within its bounds how much."""
    scalar_key, elastic_key = jax.random.split(key)
    # One call for all scalars: each call costs half a second of compilation on a CPU.
    coins, signed = jnp.split(jax.random.uniform(scalar_key, (8 + 5 + 2 * (GRID_CELLS - 1),)), [8])
    flipped_rows, flipped_columns, rotated, zoomed, shifted, bent, gridded, pulled = coins < spec.probability
    angle, zoom, *shift, optical = 2.0 * signed[:5] - 1.0
    lines = (2.0 * signed[5:] - 1.0).reshape(2, GRID_CELLS - 1)
    smallest, largest = spec.scale
    zoom = (smallest + largest) / 2 + zoom * (largest - smallest) / 2
    grid = elastic = None
    if spec.grid_fraction:
        grid = _grid_lines(jnp.where(gridded, lines * spec.grid_fraction, 0.0), height, width)
    if spec.elastic_pixels:
        deviation = jnp.where(pulled, spec.elastic_pixels, 0.0)
        elastic = _smooth_noise(elastic_key, deviation, spec.elastic_smooth_pixels, height, width)
    return Geometry(
        angle=jnp.where(rotated, angle * math.radians(spec.rotate_degrees), 0.0),
        zoom=jnp.where(zoomed, zoom, 1.0),
        flip=(
            jnp.where(flipped_rows & spec.flip_front_back, -1.0, 1.0),
            jnp.where(flipped_columns & spec.flip_left_right, -1.0, 1.0),
        ),
        shift=(
            jnp.where(shifted, shift[0] * spec.shift_fraction * height, 0.0),
            jnp.where(shifted, shift[1] * spec.shift_fraction * width, 0.0),
        ),
        optical=jnp.where(bent, optical * spec.optical, 0.0),
        grid=grid,
        elastic=elastic,
    )


def _grid_lines(moves: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Piecewise linear displacements from the moves (2, cells - 1), in cells, of the inner grid lines.

    The border stays where it is, so the field of view does too.
    """
    return jnp.dot(_hat_matrix(height), moves[0]), jnp.dot(_hat_matrix(width), moves[1])


def _hat_matrix(size: int) -> np.ndarray:
    """(size, cells - 1): takes moves of the inner grid lines, in cells, to displacements of the pixels between."""
    cell = max(size - 1.0, 1.0) / GRID_CELLS
    lines = np.arange(1, GRID_CELLS)
    hats = np.maximum(0.0, 1.0 - np.abs(np.arange(size)[:, None] / cell - lines[None, :]))
    return (hats * cell).astype(np.float32)


def _smooth_noise(
    key: jax.Array, deviation: jax.Array, length: float, height: int, width: int
) -> tuple[jax.Array, jax.Array]:
    """Two Gaussian fields (H, W) of the given standard deviation and correlation exp(-d^2 / (2 length^2))."""
    rows, columns = _smoothing_matrix(height, length), _smoothing_matrix(width, length)
    noise = deviation * jax.random.normal(key, (2, rows.shape[1], columns.shape[1]))
    along_rows, along_columns = jnp.einsum("hi,kij,wj->khw", rows, noise, columns)
    return along_rows, along_columns


def _smoothing_matrix(size: int, length: float) -> np.ndarray:
    """Takes white noise on a coarse lattice to `size` pixels: Gaussian weights, every row of length 1.

    A Gaussian of deviation s = length / sqrt(2) correlates two points at distance d by exp(-d^2 / (4 s^2)).  A lattice
    as coarse as s carries it without visible structure, and reaches 3 s beyond the border on each side.
    """
    spread = length / math.sqrt(2.0)
    lattice = np.arange(-3, math.ceil((size - 1) / spread) + 4) * spread
    weights = np.exp(-((np.arange(size)[:, None] - lattice[None, :]) ** 2) / (2.0 * spread**2))
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


# --- where each pixel comes from -----------------------------------------------------------------------------------


def source_coordinates(geometry: Geometry, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Returns the source's row and column, each (H, W) in pixels, of every pixel of the result.

    With nothing to do it returns the pixels' own coordinates without rounding: half-integers from the centre are exact.
    """
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    down = np.arange(height, dtype=np.float32) - middle_row
    right = np.arange(width, dtype=np.float32) - middle_column
    if geometry.grid is not None:
        down, right = down + geometry.grid[0], right + geometry.grid[1]
    down, right = jnp.broadcast_to(down[:, None], (height, width)), jnp.broadcast_to(right[None, :], (height, width))
    if geometry.elastic is not None:
        down, right = down + geometry.elastic[0], right + geometry.elastic[1]
    corner = max(middle_row**2 + middle_column**2, 1.0)
    bend = 1.0 + geometry.optical * (down * down + right * right) / corner
    down, right = bend * down - geometry.shift[0], bend * right - geometry.shift[1]
    cosine, sine = jnp.cos(geometry.angle) / geometry.zoom, jnp.sin(geometry.angle) / geometry.zoom
    # The row axis points down: a picture that turns counter-clockwise takes its pixels from clockwise of them.
    flip_rows, flip_columns = geometry.flip
    turn = jnp.stack([flip_rows * cosine, flip_rows * sine, -flip_columns * sine, flip_columns * cosine])
    # A matrix product, not a sum of products, so that XLA keeps its result instead of working out sine and cosine anew
    # for every pixel that is gathered; it must be in full float32, as it makes coordinates.
    rows, columns = jnp.einsum("ij,jhw->ihw", turn.reshape(2, 2), jnp.stack([down, right]), precision="highest")
    return rows + middle_row, columns + middle_column


# --- sampling ------------------------------------------------------------------------------------------------------


def sample(
    images: jax.Array, masks: jax.Array, distance: jax.Array, rows: jax.Array, columns: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Takes images (linear), masks (nearest) and distances (linear, edge extended) at the coordinates (H, W)."""
    height, width = rows.shape
    top, left = jnp.floor(rows).astype(jnp.int32), jnp.floor(columns).astype(jnp.int32)
    low, right = rows - top, columns - left
    image, far = jnp.zeros_like(images), jnp.zeros_like(distance)
    for lower, further in ((0, 0), (0, 1), (1, 0), (1, 1)):
        index, inside = _place(top + lower, left + further, height, width)
        weight = (low if lower else 1.0 - low) * (right if further else 1.0 - right)
        image += _over(jnp.where(inside, weight, 0.0), images) * _take(images, index)
        far += _over(weight, distance) * _take(distance, index)
    nearest, inside = _place(top + (low >= 0.5), left + (right >= 0.5), height, width)
    mask = jnp.where(_over(inside, masks), _take(masks, nearest), 0.0)
    return image, mask, far


def _place(row: jax.Array, column: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """The index of the pixel, or of the one nearest to it at the edge, and whether it is inside: each (H, W)."""
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1), inside


def _take(array: jax.Array, index: jax.Array) -> jax.Array:
    """(*lead, H, W, C) at the places (H, W), the same ones in every slice."""
    *lead, height, width, channels = array.shape
    flat = array.reshape(-1, height * width, channels)
    return flat.at[:, index.reshape(-1)].get(mode="promise_in_bounds").reshape(array.shape)


def _over(field: jax.Array, array: jax.Array) -> jax.Array:
    """Gives a field (H, W) the axes of an array (*lead, H, W, C)."""
    return field.reshape((1,) * (array.ndim - 3) + field.shape + (1,))
