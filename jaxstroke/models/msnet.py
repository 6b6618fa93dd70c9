"""MSNet: multi-scale subtraction in the place of skip connections (Zhao et al., MICCAI 2021).

Every level of the encoder is first brought to one width ("unified", here 32 channels, which the finest level has).  A
subtraction unit compares two neighbouring levels,

    SU(F_a, F_b) = conv-BN-ReLU(|F_a - up(F_b)|)

and units stand in a triangle: column n compares what column n - 1 says of neighbouring levels, so that a level
gathers differences to coarser and coarser ones.  A level's differences are summed and convolved (the complementarity
enhanced feature CE_l), and the decoder adds from coarse to fine: D_l = conv-BN-ReLU(CE_l + up(D_{l + 1})).

The paper's encoder is Res2Net-50 with 64 unified channels; MDANet's printed size is that of a plain encoder, twice
conv3x3-BN-ReLU a level, 32 to 512 channels, with 32 unified ones.  The paper's second loss, on features of a frozen
VGG-16, is left out: it needs pretrained weights.  Up is bilinear with corners aligned.  Any height and width of 16
pixels or more will do.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.batch_norm_unet import Encoder, doubling_widths
from jaxstroke.models.nn.blocks import ConvNormAct, LogitHead
from jaxstroke.models.nn.resize import resize_bilinear
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 5


class MSNet(nn.Module):
    """images (B, H, W, C) -> Outputs with logits (B, H, W, targets).

    Attributes:
      width: channels of the finest level of the encoder, and of all unified maps.
    """

    targets: int = 1
    width: int = 32
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        unit = functools.partial(ConvNormAct, self.width, axis_name=self.axis_name, dtype=self.dtype)
        widths = doubling_widths(self.width, LEVELS)
        levels = Encoder(widths, self.axis_name, self.dtype, name="encoder")(images, train=train)
        finest, *coarser = levels
        unified = [finest, *(unit(name=f"unify{n}")(x, train=train) for n, x in enumerate(coarser, start=2))]

        differences: list[list[jax.Array]] = [[] for _ in unified]  # of each level, the nearest neighbour's first
        column = unified
        while len(column) > 1:
            span = LEVELS + 1 - len(column)  # how many levels apart the compared maps began
            pairs = enumerate(zip(column[:-1], column[1:], strict=True), start=1)
            column = [
                unit(name=f"subtract{number}_{number + span}")(_distance(fine, coarse), train=train)
                for number, (fine, coarse) in pairs
            ]
            for level, difference in enumerate(column):
                differences[level].append(difference)

        x = unit(name="bottom")(levels[-1], train=train)
        for number in range(LEVELS - 1, 0, -1):
            gathered = functools.reduce(jnp.add, differences[number - 1])
            enhanced = unit(name=f"enhance{number}")(gathered, train=train)
            x = resize_bilinear(x, enhanced.shape[-3:-1])
            x = unit(name=f"decoder{number}")(enhanced + x, train=train)
        return Outputs(LogitHead(self.targets, name="head")(x))


def _distance(fine: jax.Array, coarse: jax.Array) -> jax.Array:
    """|F_a - up(F_b)|, the argument of a subtraction unit."""
    return jnp.abs(fine - resize_bilinear(coarse, fine.shape[-3:-1]))


NETWORK = Network("msnet", MSNet, "slice")

NOTE = (
    "The column 'Param (M)' is size in MiB at float32. The size fits a plain encoder; which of its units the authors' "
    "rerun had at full resolution is not printed, and ours costs about 4 % more."
)
CATALOGUE = (
    Entry("msnet", "msnet", 224, (2, 2), published=(Published("MDANet, Table 1", mib=20.3, gmac=6.96, note=NOTE),)),
    Entry(
        "msnet/isles2022",
        "msnet",
        112,
        (1, 1),
        published=(Published("MDANet, Table 2", mib=20.3, gmac=1.73, note=NOTE),),
    ),
)
