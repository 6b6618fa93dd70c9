"""Brightness, contrast and noise, inside the head only.

The head is every pixel at which some channel is not exactly 0: preparation leaves the background 0, and it stays 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxstroke.experiment import Augment

CHANGES = ("brightness", "contrast", "noise")


def is_on(spec: Augment) -> bool:
    return any(getattr(spec, name) > 0 for name in CHANGES)


def random_intensity(key: jax.Array, images: jax.Array, spec: Augment) -> jax.Array:
    """Changes the intensities of one example (*lead, H, W, C); all its slices alike, each channel on its own.

    contrast: m + (1 + c) (x - m), m the channel's mean in the head, c uniform in +-spec.contrast; then brightness:
    x + b, b uniform in +-spec.brightness; then noise: x + normal of standard deviation spec.noise.
    """
    scalar_key, noise_key = jax.random.split(key)
    channels = images.shape[-1]
    coins, signed = jnp.split(jax.random.uniform(scalar_key, (3 + 2 * channels,)), [3])
    do_contrast, do_brightness, do_noise = coins < spec.probability
    contrast, brightness = (2.0 * signed - 1.0).reshape(2, *(1,) * (images.ndim - 1), channels)
    head = jnp.any(images != 0, axis=-1, keepdims=True)
    changed = images
    if spec.contrast > 0:
        everywhere = tuple(range(images.ndim - 1))
        mean = jnp.sum(images, axis=everywhere, keepdims=True) / jnp.maximum(jnp.sum(head), 1)
        # Added as a change, so that a change not drawn adds exactly 0.
        changed += jnp.where(do_contrast, spec.contrast * contrast, 0.0) * (images - mean)
    if spec.brightness > 0:
        changed += jnp.where(do_brightness, spec.brightness * brightness, 0.0)
    if spec.noise > 0:
        changed += jnp.where(do_noise, spec.noise, 0.0) * jax.random.normal(noise_key, images.shape)
    return jnp.where(head, changed, 0.0).astype(images.dtype)
