"""Attention U-Net: additive gates on the skip connections (Oktay et al., MIDL 2018).

The gate of level l weighs the skip x by where the coarser decoder map g, brought to the same size, points:

    a = sigmoid(BN(w(relu(BN(q g) + BN(k x)))))        q, k: c -> c / 2,  w: c / 2 -> 1, all 1 x 1
    x' = a * x

Up by transposed 2 x 2 convolutions with stride 2 (2c -> c); encoder and decoder blocks are conv3x3-BN-ReLU twice,
32 to 512 channels.  The original gates 3D volumes with g one level coarser than x and resamples a; gates at equal
size with batch normalisation are those of the widely used 2D version, and with them MDANet's printed size comes about.
Any height and width of 16 pixels or more will do: a map that comes up short of an odd skip repeats its edge.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.attention import AdditiveGate
from jaxstroke.models.nn.batch_norm_unet import Encoder, doubling_widths
from jaxstroke.models.nn.blocks import DoubleConv, DoublingConvolution, LogitHead
from jaxstroke.models.nn.resize import match_size
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 5

# PyTorch draws the kernel of a transposed convolution by its outputs' number: variance 1 / (3 out k^2).
TRANSPOSED_KERNEL = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform", in_axis=-1, out_axis=-2)


class AttentionUNet(nn.Module):
    """images (B, H, W, C) -> Outputs with logits (B, H, W, targets)."""

    targets: int = 1
    width: int = 32
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        widths = doubling_widths(self.width, LEVELS)
        *skips, x = Encoder(widths, self.axis_name, self.dtype, name="encoder")(images, train=train)
        for number, skip in reversed(list(enumerate(skips, start=1))):
            features = skip.shape[-1]
            x = DoublingConvolution(features, TRANSPOSED_KERNEL, self.dtype, name=f"up{number}")(x)
            x = match_size(x, skip)
            gate = AdditiveGate(
                features // 2, norm=True, axis_name=self.axis_name, dtype=self.dtype, name=f"gate{number}"
            )
            gated = gate(x, skip, train=train).features
            x = jnp.concatenate([gated, x], axis=-1)
            x = DoubleConv(features, axis_name=self.axis_name, dtype=self.dtype, name=f"decoder{number}")(
                x, train=train
            )
        return Outputs(LogitHead(self.targets, name="head")(x))


NETWORK = Network("attention_unet", AttentionUNet, "slice")

NOTE = (
    "The column 'Param (M)' is size in MiB at float32. Our operations are those of convolutions, 5 % below; "
    "normalisation, activation and the gates' products, which common counters add, explain a part of that."
)
CATALOGUE = (
    Entry(
        "attention_unet",
        "attention_unet",
        224,
        (2, 2),
        published=(Published("MDANet, Table 1", mib=29.9, gmac=9.92, note=NOTE),),
    ),
    Entry(
        "attention_unet/isles2022",
        "attention_unet",
        112,
        (1, 1),
        published=(Published("MDANet, Table 2", mib=29.9, gmac=2.47, note=NOTE),),
    ),
)
