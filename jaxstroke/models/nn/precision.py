"""How wide numbers are where narrow ones would not do."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def at_least_float32(x: jax.Array) -> jax.Array:
    """Widens bfloat16, flags and whole numbers to float32; float64, in which the parity check computes, stays.

    >>> at_least_float32(jnp.ones((1,), jnp.bfloat16)).dtype
    dtype('float32')
    """
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
