"""Random changes to training examples, on the device, under jit.

All geometric changes of an example are composed into one field of coordinates and sampled once (`warp`); every slice
of a clip, volume or series goes the same way, and masks and distance maps travel along.  Brightness, contrast and
noise follow (`intensity`), and last whole images are left out (`dropout`).

What is drawn for an example depends on the key and on the example's global index alone, so that it is the same
whatever batch the example sits in and however many devices there are.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxstroke.augment import dropout, intensity, warp
from jaxstroke.errors import UserError
from jaxstroke.experiment import Augment


def augment(key: jax.Array, batch: Mapping[str, jax.Array], spec: Augment) -> dict[str, jax.Array]:
    """Returns the batch with `images`, `masks` and `distance` changed at random.

    Args:
      key: a fresh key for each training step.
      batch: `images` (B, [T,] H, W, C), `masks` and `distance` (B, [T,] H, W, K), `index` (B,), and whatever else,
        which passes through.
      spec: the bounds; static under jit.  With every change off, the batch comes back as it is.
    """
    check(spec)
    changes = spec.probability > 0
    geometric, radiometric = changes and warp.is_on(spec), changes and intensity.is_on(spec)
    if not (geometric or radiometric or dropout.is_on(spec)):
        return dict(batch)

    def one(index: jax.Array, images: jax.Array, masks: jax.Array, distance: jax.Array) -> tuple[jax.Array, ...]:
        own = jax.random.fold_in(key, index)
        where, how_bright = jax.random.split(own)
        if geometric:
            images, masks, distance = warp.random_warp(where, images, masks, distance, spec)
        if radiometric:
            images = intensity.random_intensity(how_bright, images, spec)
        if dropout.is_on(spec):  # its key apart, so that the other draws are the same with it and without
            images = dropout.random_dropout(jax.random.fold_in(own, 2), images, spec)
        return images, masks, distance

    index = batch["index"].astype(jnp.uint32)
    images, masks, distance = jax.vmap(one)(index, batch["images"], batch["masks"], batch["distance"])
    return {**batch, "images": images, "masks": masks, "distance": distance}


@functools.cache
def check(spec: Augment) -> None:
    """Says plainly which bound of the random changes makes no sense."""
    low, high = spec.scale
    rules = {
        "probability": (0 <= spec.probability <= 1, "0 to 1"),
        "scale": (0 < low <= high, "two numbers above 0, the smaller first, such as 0.8,1.2"),
        "rotate_degrees": (0 <= spec.rotate_degrees <= 180, "0 to 180"),
        "shift_fraction": (0 <= spec.shift_fraction < 1, "0 to 1"),
        "elastic_smooth_pixels": (spec.elastic_smooth_pixels >= 1, "1 or more"),
        "grid_fraction": (0 <= spec.grid_fraction < 0.5, "0 to below 0.5, beyond which grid lines cross"),
        "optical": (0 <= spec.optical < 1 / 3, "0 to below 1/3, beyond which the image folds"),
        **{name: (getattr(spec, name) >= 0, "0 or more") for name in ("elastic_pixels", *intensity.CHANGES)},
    }
    for name, (holds, expected) in rules.items():
        if not holds:
            raise UserError(f"augment.{name}={getattr(spec, name)}: it must be {expected}")
