"""U-Net++: a U-Net whose skip connections are themselves dense ladders (Zhou et al., DLMIA 2018).

Node X(i, j), level i and column j, holds widths[i] channels:

    X(i, 0) = H(pool(X(i - 1, 0)))
    X(i, j) = H([X(i, 0), ..., X(i, j - 1), up(X(i + 1, j - 1))])        j > 0

H is conv3x3-BN-ReLU twice, `up` bilinear with corners aligned.  Widths 32 to 512 as the original; logits from X(0, 4)
alone, without deep supervision, which is how the size printed in MDANet's Table 1 comes about.
Any height and width of 16 pixels or more will do.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.batch_norm_unet import Encoder, doubling_widths
from jaxstroke.models.nn.blocks import DoubleConv, LogitHead
from jaxstroke.models.nn.resize import resize_bilinear
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 5


class UNetPlusPlus(nn.Module):
    """images (B, H, W, C) -> Outputs with logits (B, H, W, targets)."""

    targets: int = 1
    width: int = 32
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        widths = doubling_widths(self.width, LEVELS)
        backbone = Encoder(widths, self.axis_name, self.dtype, name="encoder")(images, train=train)
        rows = [[x] for x in backbone]  # rows[i][j] is X(i, j)
        for column in range(1, LEVELS):
            for level in range(LEVELS - column):
                row = rows[level]
                below = resize_bilinear(rows[level + 1][column - 1], row[0].shape[-3:-1])
                node = DoubleConv(
                    widths[level], axis_name=self.axis_name, dtype=self.dtype, name=f"node{level + 1}_{column + 1}"
                )
                row.append(node(jnp.concatenate([*row, below], axis=-1), train=train))
        return Outputs(LogitHead(self.targets, name="head")(rows[0][-1]))


NETWORK = Network("unet_plus_plus", UNetPlusPlus, "slice")

NOTE = (
    "The column 'Param (M)' is size in MiB at float32. Our operations are those of convolutions; normalisation and "
    "activation, which common counters add, make the other 1 %."
)
CATALOGUE = (
    Entry(
        "unet_plus_plus",
        "unet_plus_plus",
        224,
        (2, 2),
        published=(Published("MDANet, Table 1", mib=35.0, gmac=26.69, note=NOTE),),
    ),
    Entry(
        "unet_plus_plus/isles2022",
        "unet_plus_plus",
        112,
        (1, 1),
        published=(Published("MDANet, Table 2", mib=35.0, gmac=6.66, note=NOTE),),
    ),
)
