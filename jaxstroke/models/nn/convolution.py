"""A convolution that the CPU's compiler computes quickly, wherever it stands, and its gradients with it.

XLA writes the gradients of a convolution as convolutions with other roles of the axes.  For the CPU it brings them into
the one form that its quick code takes, but only outside of loops: in the body of a `scan` (DME-Net's walk, a batch in
parts) such a gradient ran over a hundred times as long.  So here they are written in that form:

    dx = conv(g, kernel turned round, its channels swapped)
    dk = conv(x, g), with channels for a batch and the batch for channels

Windows of 3 x 3 with many channels are products in Winograd's form (`winograd.py`), which takes less than half of the
arithmetic; with few channels its sums around the products cost more than they save.

On other platforms all is JAX's own; the choice falls when the program is lowered, so that each platform's program holds
its own form alone.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxstroke.models.nn import winograd

# From so many channels on each side and tiles of 2 x 2 pixels is Winograd's form the quicker one on the CPU
# (docs/performance.md). Its kernels cost as much as nine tiles.
_MANY_CHANNELS = 128
_MANY_TILES = 32


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Any,
    padding: Any,
    *,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` of (B, *space, C) with a kernel (*window, C, features), as `nn.Conv` calls it.

    What keeps the size of the map, with steps of one and all channels together, has the gradients above.
    """
    window = kernel.shape[:-2]
    ones = (1,) * len(window)
    steps = (tuple(strides), tuple(lhs_dilation or ones), tuple(rhs_dilation or ones))
    same = all(size % 2 for size in window) and _pairs(padding) == tuple((size // 2,) * 2 for size in window)
    if same and steps == (ones,) * 3 and feature_group_count == 1:
        return _same(x, kernel, precision)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers or _numbers(x.ndim),
        feature_group_count=feature_group_count,
        precision=precision,
    )


def _pairs(padding: Any) -> Any:
    return None if isinstance(padding, str) else tuple((int(low), int(high)) for low, high in padding)


def _numbers(axes: int) -> jax.lax.ConvDimensionNumbers:
    """Channels last, and the kernel (*window, in, out)."""
    space = tuple(range(1, axes - 1))
    window = tuple(range(axes - 2))
    return jax.lax.ConvDimensionNumbers((0, axes - 1, *space), (axes - 1, axes - 2, *window), (0, axes - 1, *space))


def _plain(x: jax.Array, kernel: jax.Array, precision: Any, window: tuple[int, ...] | None = None) -> jax.Array:
    """Padded by half of `window`, that of the kernel if none is given."""
    window = kernel.shape[:-2] if window is None else window
    padding = [(size // 2, size // 2) for size in window]
    ones = (1,) * len(padding)
    return jax.lax.conv_general_dilated(
        x, kernel, ones, padding, dimension_numbers=_numbers(x.ndim), precision=precision
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _same(x: jax.Array, kernel: jax.Array, precision: Any) -> jax.Array:
    return _value(x, kernel, precision)


def _forward(x: jax.Array, kernel: jax.Array, precision: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _value(x, kernel, precision), (x, kernel)


def _value(x: jax.Array, kernel: jax.Array, precision: Any) -> jax.Array:
    if _is_quicker_by_winograd(x, kernel):
        return _by_platform(precision, x, kernel)
    return _plain(x, kernel, precision)


@functools.partial(jax.jit, static_argnums=0)
def _by_platform(precision: Any, x: jax.Array, kernel: jax.Array) -> jax.Array:
    own = functools.partial(_plain, precision=precision)
    quick = functools.partial(winograd.convolve, precision=precision)
    return jax.lax.platform_dependent(x, kernel, cpu=quick, default=own)


def _is_quicker_by_winograd(x: jax.Array, kernel: jax.Array) -> bool:
    """Not in bfloat16, where the sums beside the products would cost digits, nor where a size is open (an exported
    program's), so that nobody can count the tiles."""
    if not all(isinstance(size, int) for size in x.shape):
        return False
    tiles = math.prod(x.shape[:-1]) // 4
    large = min(kernel.shape[-2:]) >= _MANY_CHANNELS and tiles >= _MANY_TILES
    return large and kernel.shape[:-2] == (3, 3) and x.dtype == jnp.float32


def _backward(precision: Any, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each gradient is chosen by itself, so that one that nobody asks for is not computed."""
    x, kernel = kept
    return _gradient(0, precision, x, kernel, g), _gradient(1, precision, x, kernel, g)


# Jitted so that it is traced once for each shape that a network has, not for each of its convolutions.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradient(argument: int, precision: Any, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    def own(*arrays: jax.Array) -> jax.Array:
        def of_one(one: jax.Array) -> jax.Array:
            return _plain(one, arrays[1], precision) if argument == 0 else _plain(arrays[0], one, precision)

        # Transposed, not differentiated: that would put the forward into the program once more, which is then
        # thrown away, but not before `count` has counted it.
        return jax.linear_transpose(of_one, arrays[argument])(arrays[2])[0]

    quick = functools.partial((input_gradient, kernel_gradient)[argument], precision)
    return jax.lax.platform_dependent(x, kernel, g, cpu=quick, default=own)


_same.defvjp(_forward, _backward)


def input_gradient(precision: Any, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """dx as a convolution of g in the CPU's form; of `x` only the shape counts."""
    del x
    window = tuple(range(kernel.ndim - 2))
    turned = jnp.flip(kernel, window).swapaxes(-1, -2)
    if _is_quicker_by_winograd(g, kernel):
        return winograd.convolve(g, turned, precision)
    return _plain(g, turned, precision)


def kernel_gradient(precision: Any, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """dk as a convolution in the CPU's form, or a product for a window of one pixel; of `kernel` only the shape counts.

    The quick code copies a window for each channel of the side that plays the batch: that is the one with fewer.  Where
    it is g that is moved over x, the window comes out turned round.
    """
    window = kernel.shape[:-2]
    if _is_quicker_by_winograd(x, kernel):
        return winograd.kernel_gradient(x, g, precision)
    if all(size == 1 for size in window):
        flat = jax.lax.dot_general(
            x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ())), precision=precision
        )
        return flat.reshape(kernel.shape)
    swapped = x.shape[-1] > g.shape[-1]
    moved, still = (g, x) if swapped else (x, g)
    space = tuple(range(1, x.ndim - 1))
    found = _plain(
        moved.transpose(x.ndim - 1, *space, 0), still.transpose(*space, 0, x.ndim - 1), precision, window
    )  # (channels of `moved`, *window, channels of `still`)
    if swapped:
        return jnp.flip(found, space).transpose(*space, x.ndim - 1, 0)
    return found.transpose(*space, 0, x.ndim - 1)
