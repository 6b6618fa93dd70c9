"""3D-U-Net, the volumetric peer of DME-Net (Cicek et al., MICCAI 2016).

A level convolves 3 x 3 x 3 to half its width and then to its width, 64 to 512 channels in four levels (`width` = 32 is
half the finest), BatchNorm and ReLU after each; the decoder does so twice at the skip's width.  DME-Net's paper says no
more than "3D-U-Net, which considers full 3D context".  Ours: pooling and interpolation act in the plane alone,
(1, 2, 2), because ISLES 2018 has 2 to 16 slices of 5 to 12 mm; up is bilinear (corners aligned) where the original
has transposed convolutions.  `width` = 16 is a quarter of the size for small machines.

Any number of slices, and any height and width of 8 pixels or more, will do.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.batch_norm_unet import doubling_widths, require_pixels
from jaxstroke.models.nn.blocks import LogitHead
from jaxstroke.models.nn.resize import max_pool, resize_bilinear
from jaxstroke.models.nn.volume import VolumeDoubleConv
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 4


class UNet3D(nn.Module):
    """images (B, D, H, W, C), valid (B, D) -> Outputs with logits (B, D, H, W, targets).

    Slices that are not valid change nothing for the others; without `valid` all are.

    Attributes:
      width: channels of the very first convolution; the levels have 2, 4, 8, 16 times as many.
    """

    targets: int = 1
    width: int = 32
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, valid: jax.Array | None = None, *, train: bool) -> Outputs:
        require_pixels(images, 2 ** (LEVELS - 1))
        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        skips: list[jax.Array] = []
        x = images
        for number, features in enumerate(doubling_widths(2 * self.width, LEVELS), start=1):
            if number > 1:
                skips.append(x)
                x = max_pool(x)
            x = VolumeDoubleConv(features // 2, features, name=f"encoder{number}", **settings)(x, valid, train=train)
        for number, skip in reversed(list(enumerate(skips, start=1))):
            features = skip.shape[-1]
            x = resize_bilinear(x, skip.shape[-3:-1])
            x = jnp.concatenate([skip, x], axis=-1)
            x = VolumeDoubleConv(features, features, name=f"decoder{number}", **settings)(x, valid, train=train)
        return Outputs(LogitHead(self.targets, name="head")(x))


NETWORK = Network("unet3d", UNet3D, "volume")

NOTE = "DME-Net's paper prints neither parameters nor operations for its peers; the widths are those of the original."
CATALOGUE = (
    Entry("unet3d", "unet3d", 160, (4, 1), depth=8, published=(Published("DME-Net", note=NOTE),)),
    Entry("unet3d/small", "unet3d", 160, (4, 1), {"width": 16}, depth=8, published=(Published("DME-Net", note=NOTE),)),
)
