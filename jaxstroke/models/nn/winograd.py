"""3 x 3 convolutions by Winograd's F(2 x 2, 3 x 3): 16 products a tile of 2 x 2 pixels, where the window asks for 36.

Lavin and Gray 2016, https://arxiv.org/abs/1509.09308.  With d a tile of 4 x 4 pixels of the padded map, k a kernel and
y the 2 x 2 pixels that come out,

    y = A' [(G k G') * (B' d B)] A

The element-wise product is summed over channels, so that each of its 16 places is a matrix product of all tiles with
all kernels.  It is the same sum in another order: in float32 it differs from the window's by some 1e-6.

The 16 places stand first in every array, for one product of them all: what is written apart is compiled apart, and took
four times as long to compile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)  # G
_KERNEL_BOTH_WAYS = np.kron(_KERNEL, _KERNEL)  # (16 places, 9 pixels of the window)

_MATRICES_TIMES = (((2,), (1,)), ((0,), (0,)))
_TRANSPOSED_TIMES = (((1,), (1,)), ((0,), (0,)))


def convolve(x: jax.Array, kernel: jax.Array, precision: Any = None) -> jax.Array:
    """(B, H, W, C) by (3, 3, C, features) to (B, H, W, features), padded by one."""
    batch, height, width, _ = x.shape
    tiles = batch, (height + 1) // 2, (width + 1) // 2, kernel.shape[-1]
    products = jax.lax.dot_general(_tiles(x), _kernels(kernel), _MATRICES_TIMES, precision=precision)
    rows = _result(products.reshape(4, 4, *tiles))
    pixels = [_result(row) for row in rows]
    whole = jnp.stack([jnp.stack(row, axis=3) for row in pixels], axis=2)  # (B, tiles, 2, tiles, 2, features)
    return jax.lax.optimization_barrier(whole.reshape(batch, 2 * tiles[1], 2 * tiles[2], tiles[3])[:, :height, :width])


def kernel_gradient(x: jax.Array, g: jax.Array, precision: Any = None) -> jax.Array:
    """Of the above, where g (B, H, W, features) is the gradient of what came out: each step of it, transposed."""
    _, height, width, features = g.shape
    spread = _both_ways(_spread, jnp.pad(g, ((0, 0), (0, height % 2), (0, width % 2), (0, 0))))
    products = jax.lax.dot_general(_tiles(x), spread, _TRANSPOSED_TIMES, precision=precision)
    whole = jnp.asarray(_KERNEL_BOTH_WAYS.T, x.dtype) @ products.reshape(16, -1)
    return whole.reshape(3, 3, x.shape[-1], features)


def _tiles(x: jax.Array) -> jax.Array:
    """B' d B of every tile: (16, tiles, C)."""
    _, height, width, _ = x.shape
    return _both_ways(_differences, jnp.pad(x, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0))))


def _kernels(kernel: jax.Array) -> jax.Array:
    """G k G': (16, C, features)."""
    places = jnp.asarray(_KERNEL_BOTH_WAYS, kernel.dtype) @ kernel.reshape(9, -1)
    return places.reshape(16, *kernel.shape[2:])


def _both_ways(change: Callable[[jax.Array, int], Sequence[jax.Array]], x: jax.Array) -> jax.Array:
    """(B, H, W, C) to (16, tiles, C): along the rows, and then along the columns.

    What is read several times is written down before: the compiler would compute it as often.
    """
    rows = jax.lax.optimization_barrier(jnp.stack(change(jax.lax.optimization_barrier(x), 1)))
    return jnp.stack(change(rows, 3), axis=1).reshape(16, -1, x.shape[-1])


def _differences(x: jax.Array, axis: int) -> Sequence[jax.Array]:
    """B' d along an axis, of the four pixels of each tile; tiles overlap by two."""
    last = x.shape[axis] - 3
    one, two, three, four = (jax.lax.slice_in_dim(x, first, first + last, stride=2, axis=axis) for first in range(4))
    return one - three, two + three, three - two, two - four


def _spread(g: jax.Array, axis: int) -> Sequence[jax.Array]:
    """A y along an axis, of the two pixels of each tile."""
    one, two = (jax.lax.slice_in_dim(g, first, None, stride=2, axis=axis) for first in range(2))
    return one, one + two, one - two, -two


def _result(line: Any) -> Sequence[Any]:
    """A' m along the first axis."""
    one, two, three, four = line
    return one + two + three, two - three - four
