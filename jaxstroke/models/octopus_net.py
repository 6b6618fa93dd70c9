"""OctopusNet, approximately: an encoder for each modality and one decoder that fuses them (Chen et al., MMMI 2019).

What the paper fixes: a separate encoder for each modality, so that modalities do not interfere, and a "hyper-fusion"
decoder that takes the features of all of them at every level "while avoiding feature explosion".
Ours, as no size is published: each encoder is that of a U-Net of half width (conv3x3-BN-ReLU twice, 16 to 256
channels); at every level the modalities' maps are concatenated and brought by conv1x1-BN-ReLU to 32 to 512 channels,
whatever their number; from there on the decoder is U-Net's.  MDANet quotes the paper's Dice and did not run it again.

Any height and width of 16 pixels or more will do.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.batch_norm_unet import Decoder, Encoder, doubling_widths
from jaxstroke.models.nn.blocks import ConvNormAct, LogitHead
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 5


class OctopusNet(nn.Module):
    """images (B, H, W, C), one modality a channel -> Outputs with logits (B, H, W, targets).

    Attributes:
      width: channels of a modality's finest map; fused maps have twice as many.
    """

    targets: int = 1
    width: int = 16
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        widths = doubling_widths(self.width, LEVELS)
        arms = [
            Encoder(widths, name=f"encoder{number + 1}", **settings)(images[..., number : number + 1], train=train)
            for number in range(images.shape[-1])
        ]
        fused = [
            ConvNormAct(2 * width, 1, name=f"fuse{number}", **settings)(jnp.concatenate(maps, axis=-1), train=train)
            for number, (width, maps) in enumerate(zip(widths, zip(*arms, strict=True), strict=True), start=1)
        ]
        x = Decoder(name="decoder", **settings)(fused, train=train)
        return Outputs(LogitHead(self.targets, name="head")(x))


NETWORK = Network("octopus_net", OctopusNet, "slice")

NOTE = "Neither MDANet nor the paper prints a size; widths are ours."
CATALOGUE = (Entry("octopus_net", "octopus_net", 224, (2, 2), published=(Published("MDANet, Table 1", note=NOTE),)),)
