"""U-Net, as MDANet's authors ran it (Ronneberger et al., MICCAI 2015).

All images enter stacked as channels.  Five levels of conv3x3-BN-ReLU twice, 32 to 512 channels, 2 x 2 max-pool down,
bilinear x2 up with corners aligned, and a 1 x 1 convolution.  These are the widths and the interpolation whose
parameters and operations reproduce what MDANet's Tables 1 and 2 print; the original U-Net starts from 64 channels,
pads nothing and goes up by transposed convolutions.  Any height and width of 16 pixels or more will do.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from jaxstroke.models.nn.batch_norm_unet import Decoder, Encoder, doubling_widths
from jaxstroke.models.nn.blocks import LogitHead
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 5


class UNet(nn.Module):
    """images (B, H, W, C) -> Outputs with logits (B, H, W, targets)."""

    targets: int = 1
    width: int = 32
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        widths = doubling_widths(self.width, LEVELS)
        levels = Encoder(widths, self.axis_name, self.dtype, name="encoder")(images, train=train)
        x = Decoder(self.axis_name, self.dtype, name="decoder")(levels, train=train)
        return Outputs(LogitHead(self.targets, name="head")(x))


NETWORK = Network("unet", UNet, "slice")

NOTE = (
    "The column 'Param (M)' is size in MiB at float32. Our operations are those of convolutions; normalisation and "
    "activation, which common counters add, make the other 1 %."
)
CATALOGUE = (
    Entry("unet", "unet", 224, (2, 2), published=(Published("MDANet, Table 1", mib=30.0, gmac=10.81, note=NOTE),)),
    Entry(
        "unet/isles2022", "unet", 112, (1, 1), published=(Published("MDANet, Table 2", mib=30.0, gmac=2.69, note=NOTE),)
    ),
)
