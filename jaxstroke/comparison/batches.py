"""Drawn batches, in the form that the stream gives them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from jaxstroke.experiment import Data
from jaxstroke.models import apply


def draw_batch(data: Data, seed: int) -> dict[str, np.ndarray]:
    """A batch as the stream gives it: noise for images, discs for lesions; the last slice of the last clip is none."""
    random = np.random.default_rng(seed)
    images = random.normal(size=(data.batch, *apply.example_shape(data))).astype(np.float32)
    lead = (data.batch, *data.kind.slices_lead(data.depth))
    masks = np.zeros((*lead, data.size, data.size, len(data.targets)), np.float32)
    distance = np.zeros_like(masks)
    rows, columns = np.ogrid[: data.size, : data.size]
    for where in np.ndindex(*lead, len(data.targets)):
        row, column = random.uniform(0.3, 0.7, 2) * data.size
        disc = (rows - row) ** 2 + (columns - column) ** 2 < (random.uniform(0.1, 0.25) * data.size) ** 2
        index = (*where[:-1], slice(None), slice(None), where[-1])
        masks[index] = disc
        outside, inside = (np.asarray(ndimage.distance_transform_edt(part)) for part in (~disc, disc))
        distance[index] = np.where(disc, 1 - inside, outside)
    valid = np.ones((data.batch, *apply.valid_shape(data)), bool)
    if data.kind.in_order:
        valid[-1, -1] = False
    return {"images": images, "masks": masks, "distance": distance, "valid": valid}
