"""Sums over the pixels of a map, channel by channel, and what is broadcast to them: one is the other's gradient.

Normalisation and biases consist of these.  On a CPU XLA's sum over pixels walks through memory in strides; a product
of each row of pixels with ones takes between a half and a tenth of its time, and is nearer to the true sum
(docs/performance.md).  So each gradient that is such a sum is written down here.  On other platforms the sums are JAX's
own.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxstroke.models.nn.precision import at_least_float32

# The scope of products that are sums: operation counts leave them out.
SUMS = "sums"


def over_pixels(x: jax.Array) -> jax.Array:
    """(B, *space, C) -> (B, C)."""
    return _over_pixels(x.shape, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _over_pixels(shape: tuple[Any, ...], x: jax.Array) -> jax.Array:
    # Sizes may be open: an exported program's sums stay JAX's own.
    return _by_platform(x) if all(isinstance(size, int) for size in shape) else _plain(x)


def _over_pixels_forward(shape: tuple[Any, ...], x: jax.Array) -> tuple[jax.Array, None]:
    return _over_pixels(shape, x), None


def _over_pixels_backward(shape: tuple[Any, ...], kept: None, g: jax.Array) -> tuple[jax.Array]:
    del kept
    return (jnp.broadcast_to(to_pixels(g, len(shape)), shape),)


_over_pixels.defvjp(_over_pixels_forward, _over_pixels_backward)


# Jitted so that it is traced once for each shape that a network has.
@jax.jit
def _by_platform(x: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x, cpu=_by_rows, default=_plain)


def _plain(x: jax.Array) -> jax.Array:
    return x.sum(tuple(range(1, x.ndim - 1)))


def _by_rows(x: jax.Array) -> jax.Array:
    row = x.ndim - 2
    lead = tuple(range(row))
    with jax.named_scope(SUMS):
        rows = jax.lax.dot_general(jnp.ones(x.shape[:-1], x.dtype), x, (((row,), (row,)), (lead, lead)))
        return rows.sum(lead[1:])


def to_pixels(channels: jax.Array, axes: int) -> jax.Array:
    """(B, C) -> (B, 1, ..., C), of so many axes."""
    return channels.reshape(channels.shape[0], *(1,) * (axes - 2), channels.shape[-1])


def standardised(x: jax.Array, mean: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    """(x - mean) * factor + shift, of x (B, *space, C) and three (B, C), in the type of x."""
    return _standardised(x, *(one.astype(x.dtype) for one in (mean, factor, shift)))


@jax.custom_vjp
def _standardised(x: jax.Array, mean: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    mean, factor, shift = (to_pixels(one, x.ndim) for one in (mean, factor, shift))
    return (x - mean) * factor + shift


def _standardised_forward(x: jax.Array, mean: jax.Array, factor: jax.Array, shift: jax.Array) -> tuple[jax.Array, Any]:
    return _standardised(x, mean, factor, shift), (x, mean, factor)


def _standardised_backward(kept: Any, g: jax.Array) -> tuple[jax.Array, ...]:
    x, mean, factor = kept
    total = over_pixels(g)
    with_centred = over_pixels(g * (x - to_pixels(mean, x.ndim)))
    return g * to_pixels(factor, x.ndim), -factor * total, with_centred, total


_standardised.defvjp(_standardised_forward, _standardised_backward)


@jax.custom_vjp
def biased(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x (B, *space, C) + bias (C,)."""
    return x + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _biased_forward(x: jax.Array, bias: jax.Array) -> tuple[jax.Array, None]:
    return biased(x, bias), None


def _biased_backward(kept: None, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    del kept
    return g, over_pixels(at_least_float32(g)).sum(0).astype(g.dtype)


biased.defvjp(_biased_forward, _biased_backward)
