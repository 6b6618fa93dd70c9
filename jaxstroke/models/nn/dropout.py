"""Dropout whose draws do not depend on how many devices share a batch."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """x -> x / (1 - rate) where kept, 0 elsewhere; drawn from the key and each example's place in the whole batch.

    Under `jax.pmap` set `axis_name`: the place counts the rows of the devices before this one.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if not train or self.rate == 0:
            return x
        before = 0 if self.axis_name is None else jax.lax.axis_index(self.axis_name) * len(x)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), before + jnp.arange(len(x)))
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros_like(x))
