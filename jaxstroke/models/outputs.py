"""What every network returns."""

from __future__ import annotations

from collections.abc import Mapping

import flax.struct
import jax


@flax.struct.dataclass
class Outputs:
    """The answer of a network to a batch.

    Attributes:
      logits: float32, the shape of the images with one channel for each target instead of the modalities:
        (B, H, W, K) for slices, (B, T, H, W, K) for clips, (B, D, H, W, K) for volumes.
      side_logits: further full-size logits for deep supervision, coarsest first; empty where there is none.
      features: named arrays that a loss needs beside the logits, such as MDANet's two first-stage maps.
    """

    logits: jax.Array
    side_logits: tuple[jax.Array, ...] = ()
    features: Mapping[str, jax.Array] = flax.struct.field(default_factory=dict)
