"""Images left out: a network that is trained so still answers where a study lacks one of its images."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxstroke.experiment import Augment


def is_on(spec: Augment) -> bool:
    return spec.modality_dropout > 0


def random_dropout(key: jax.Array, images: jax.Array, spec: Augment) -> jax.Array:
    """Sets each channel of one example (*lead, H, W, C) to 0 in all slices, with the chance `spec.modality_dropout`.

    Where every channel would go, one of them, each as likely as the others, stays.
    """
    coins_key, spared_key = jax.random.split(key)
    channels = images.shape[-1]
    kept = jax.random.uniform(coins_key, (channels,)) >= spec.modality_dropout
    spared = jnp.arange(channels) == jax.random.randint(spared_key, (), 0, channels)
    kept = jnp.where(jnp.any(kept), kept, spared)
    return jnp.where(kept.reshape(*(1,) * (images.ndim - 1), channels), images, 0.0).astype(images.dtype)
