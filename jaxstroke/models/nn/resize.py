"""Changing the size of feature maps, with the conventions of the public implementations.

`jax.image.resize` samples at pixel centres and antialiases when it shrinks.  The networks of the papers
were written with corner-aligned bilinear interpolation, so it is given here as two small matrix products.
All functions take (..., H, W, C).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxstroke.models.nn.precision import at_least_float32

# The scope in which interpolation is written as matrix products: published operation counts leave it out.
INTERPOLATION = "interpolation"


def bilinear_matrix(size_in: int, size_out: int, *, align_corners: bool) -> np.ndarray:
    """Returns the (size_out, size_in) matrix of one-dimensional linear interpolation, without antialiasing."""
    if align_corners:
        where = np.linspace(0.0, size_in - 1.0, size_out)
    else:
        where = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
    where = np.clip(where, 0.0, size_in - 1.0)
    low = np.minimum(np.floor(where).astype(int), max(size_in - 2, 0))
    high = np.minimum(low + 1, size_in - 1)
    fraction = where - low
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out), low), 1.0 - fraction)
    np.add.at(matrix, (np.arange(size_out), high), fraction)
    return matrix


def resize_bilinear(x: jax.Array, size: tuple[int, ...], *, align_corners: bool = True) -> jax.Array:
    """Brings (..., H, W, C) to (..., size[0], size[1], C) by bilinear interpolation."""
    height, width = x.shape[-3:-1]
    if (height, width) == tuple(size):
        return x
    if tuple(size) == (2 * height, 2 * width):
        return _double(x, align_corners)
    return _resize_by_products(x, tuple(size), align_corners)


def _resize_by_products(x: jax.Array, size: tuple[int, ...], align_corners: bool) -> jax.Array:
    height, width = x.shape[-3:-1]
    rows = jnp.asarray(bilinear_matrix(height, size[0], align_corners=align_corners), x.dtype)
    columns = jnp.asarray(bilinear_matrix(width, size[1], align_corners=align_corners), x.dtype)
    with jax.named_scope(INTERPOLATION):
        x = jnp.einsum("ph,...hwc->...pwc", rows, x)
        return jnp.einsum("qw,...pwc->...pqc", columns, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _double(x: jax.Array, align_corners: bool) -> jax.Array:
    """Twice the height and width.  A CPU mixes neighbours, one pass over the map for each axis; its products with
    matrices that are nearly all zeros took several times as long.  Other platforms keep the products.
    """
    return jax.lax.platform_dependent(
        x,
        cpu=functools.partial(_double_by_neighbours, align_corners=align_corners),
        default=functools.partial(_double_by_products, align_corners=align_corners),
    )


def _double_forward(x: jax.Array, align_corners: bool) -> tuple[jax.Array, None]:
    return _double(x, align_corners), None


def _double_backward(align_corners: bool, kept: None, g: jax.Array) -> tuple[jax.Array]:
    """Interpolation is linear: its gradient is the transposed of the same form, and needs nothing of x."""
    del kept

    def own(g: jax.Array) -> jax.Array:
        x = jax.ShapeDtypeStruct((*g.shape[:-3], g.shape[-3] // 2, g.shape[-2] // 2, g.shape[-1]), g.dtype)
        return jax.linear_transpose(functools.partial(_double_by_products, align_corners=align_corners), x)(g)[0]

    quick = functools.partial(_gather_from_neighbours, align_corners=align_corners)
    return (jax.lax.platform_dependent(g, cpu=quick, default=own),)


_double.defvjp(_double_forward, _double_backward)


def _double_by_products(x: jax.Array, align_corners: bool) -> jax.Array:
    return _resize_by_products(x, (2 * x.shape[-3], 2 * x.shape[-2]), align_corners)


def _double_by_neighbours(x: jax.Array, align_corners: bool) -> jax.Array:
    """The pixels 2 k lie between k - 1 and k, and 2 k + 1 between k and k + 1."""
    wide = at_least_float32(x)
    with jax.named_scope(INTERPOLATION):
        for axis in (x.ndim - 3, x.ndim - 2):
            before, after = _shares(wide, axis, wide.shape[axis], align_corners)
            even = wide * (1 - before) + _shift(wide, axis, 1) * before
            odd = wide * (1 - after) + _shift(wide, axis, -1) * after
            pixels = jnp.stack([even, odd], axis + 1)
            wide = pixels.reshape(*wide.shape[:axis], -1, *wide.shape[axis + 1 :])
            # Fused with the pass after it, each pixel of this one would be computed several times.
            wide = jax.lax.optimization_barrier(wide)
        return wide.astype(x.dtype)


def _gather_from_neighbours(g: jax.Array, align_corners: bool) -> jax.Array:
    """The transposed of `_double_by_neighbours`."""
    wide = at_least_float32(g)
    with jax.named_scope(INTERPOLATION):
        for axis in (g.ndim - 3, g.ndim - 2):
            count = wide.shape[axis] // 2
            before, after = _shares(wide, axis, count, align_corners)
            pixels = wide.reshape(*wide.shape[:axis], count, 2, *wide.shape[axis + 1 :])
            even, odd = (jax.lax.index_in_dim(pixels, which, axis + 1, keepdims=False) for which in (0, 1))
            own = even * (1 - before) + odd * (1 - after)
            wide = own + _shift(even * before, axis, -1) + _shift(odd * after, axis, 1)
            wide = jax.lax.optimization_barrier(wide)
        return wide.astype(g.dtype)


def _shares(x: jax.Array, axis: int, count: int, align_corners: bool) -> tuple[jax.Array, jax.Array]:
    """What pixel k - 1 has in pixel 2 k, and k + 1 in 2 k + 1, for `count` pixels, shaped to multiply maps.

    With corners aligned k / (2 n - 1) and (n - 1 - k) / (2 n - 1), at pixel centres a quarter; nothing beyond the edge.
    """
    after = np.arange(count)[::-1] / (2 * count - 1) if align_corners else np.full(count, 0.25)
    after[-1] = 0.0
    shape = [count if number == axis else 1 for number in range(x.ndim)]
    return jnp.asarray(after[::-1].reshape(shape), x.dtype), jnp.asarray(after.reshape(shape), x.dtype)


def _shift(x: jax.Array, axis: int, by: int) -> jax.Array:
    """Moves a map along an axis; what comes in is zero."""
    return jax.lax.pad(
        x, jnp.zeros((), x.dtype), [(by, -by, 0) if number == axis else (0, 0, 0) for number in range(x.ndim)]
    )


def upsample_nearest(x: jax.Array, factor: int = 2) -> jax.Array:
    """Repeats every pixel `factor` times along height and width."""
    return jnp.repeat(jnp.repeat(x, factor, axis=-3), factor, axis=-2)


def max_pool(x: jax.Array) -> jax.Array:
    """2 x 2 maximum, an odd last row or column dropped, as the public implementations do.

    Written as comparisons of pairs: their gradient is much faster on a CPU than that of `reduce_window`, goes to the
    first of equal pixels as in PyTorch, and is safe.  The gradient of `jnp.max` divides by the number of pixels that
    equal the maximum; a compiler that computes the pixels anew for it, rounding otherwise, finds none and returns NaN.
    """
    blocks = _blocks(x)
    rows = larger(blocks[..., 0, :], blocks[..., 1, :])
    return larger(rows[..., 0, :, :], rows[..., 1, :, :])


def larger(first: jax.Array, second: jax.Array) -> jax.Array:
    """The maximum, NaN if either is; its gradient goes to one of the two, always."""
    return jnp.where((second > first) | jnp.isnan(second), second, first)


def average_pool(x: jax.Array) -> jax.Array:
    """2 x 2 mean, an odd last row or column dropped."""
    return _blocks(x).mean(axis=(-4, -2))


def _blocks(x: jax.Array) -> jax.Array:
    *lead, height, width, channels = x.shape
    height, width = height // 2, width // 2
    x = x[..., : 2 * height, : 2 * width, :]
    return x.reshape(*lead, height, 2, width, 2, channels)


def match_size(x: jax.Array, reference: jax.Array) -> jax.Array:
    """Pads the bottom and right of `x` with its edge so that it has the height and width of `reference`.

    Needed where a skip connection meets a map that came back from an odd size.
    """
    rows, columns = (reference.shape[axis] - x.shape[axis] for axis in (-3, -2))
    if rows == 0 and columns == 0:
        return x
    padding = [(0, 0)] * (x.ndim - 3) + [(0, rows), (0, columns), (0, 0)]
    return jnp.pad(x, padding, mode="edge")


def adaptive_average_pool(x: jax.Array, bins: int) -> jax.Array:
    """Brings (..., H, W, C) to (..., bins, bins, C); bin b is the mean of the pixels floor(b H / bins) to
    ceil((b + 1) H / bins), as in PyTorch: bins overlap where `bins` does not divide the size.
    """
    rows, columns = (jnp.asarray(_bin_matrix(size, bins), x.dtype) for size in x.shape[-3:-1])
    with jax.named_scope(INTERPOLATION):
        x = jnp.einsum("ph,...hwc->...pwc", rows, x)
        return jnp.einsum("qw,...pwc->...pqc", columns, x)


def _bin_matrix(size: int, bins: int) -> np.ndarray:
    """The (bins, size) matrix of the means."""
    matrix = np.zeros((bins, size))
    for bin_number in range(bins):
        low, high = bin_number * size // bins, -(-(bin_number + 1) * size // bins)
        matrix[bin_number, low:high] = 1.0 / (high - low)
    return matrix
