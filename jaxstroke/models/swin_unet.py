"""Swin-Unet: a U-Net of shifted-window transformer blocks, without convolutions but two (Cao et al., ECCV 2022).

Patches of 4 x 4 pixels become tokens of 96 numbers; four stages of two blocks (windows as they lie, then shifted), with
3, 6, 12, 24 heads.  Down: patch merging, [four neighbours] 4c -> LN -> linear 2c.  Up: patch expanding, linear c -> 2c,
laid out as 2 x 2 neighbours of c / 2, LN.  Skips are concatenated and brought back to c by a linear layer; the last
expanding is x4, linear c -> 16 c, and a 1 x 1 convolution gives the logits.

Sizes: height = width = `size`, which 32 divides.  Windows are 7 x 7 where 7 divides the map (224 pixels: 56, 28, 14,
7); elsewhere each stage takes the largest smaller window that does, and the whole map where it is smaller: 160 pixels
have windows of 5.  The bias tables depend on the window, so a network is built for one size.
112 pixels, at which MDANet runs its other networks on ISLES 2022, are not possible (the last map would be 3.5): the
operations that it prints for Swin-Unet there, 6.10 G, are those of 224 pixels.

Skips are taken behind the blocks of a stage, as the paper's Figure 1 draws them; the authors' code takes them before.
No stochastic depth (the authors' code has 0.2 in its settings, the paper's text none), no pretrained weights.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError
from jaxstroke.models.nn.blocks import Convolution, LogitHead
from jaxstroke.models.nn.transformer import LayerNorm, Linear
from jaxstroke.models.nn.window import WindowBlock
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

PATCH = 4
STAGES = 4
MULTIPLE = PATCH * 2 ** (STAGES - 1)


class PatchMerging(nn.Module):
    """(B, H, W, c) -> (B, H / 2, W / 2, 2c)."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        # The authors' order of the four neighbours: down the first column, then the second.
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        x = LayerNorm(self.dtype, name="norm")(jnp.concatenate(corners, axis=-1))
        return Linear(2 * channels, use_bias=False, dtype=self.dtype, name="reduce")(x)


class PatchExpanding(nn.Module):
    """(B, H, W, c) -> (B, factor H, factor W, features): channels are laid out as (row, column, feature)."""

    features: int
    factor: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, _ = x.shape
        factor = self.factor
        x = Linear(factor**2 * self.features, use_bias=False, dtype=self.dtype, name="expand")(x)
        x = x.reshape(batch, height, width, factor, factor, self.features).swapaxes(2, 3)
        x = x.reshape(batch, factor * height, factor * width, self.features)
        return LayerNorm(self.dtype, name="norm")(x)


class Stage(nn.Module):
    """`depth` window blocks, every other one shifted."""

    depth: int
    heads: int
    window: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number in range(self.depth):
            block = WindowBlock(self.heads, self.window, number % 2 == 1, dtype=self.dtype, name=f"block{number + 1}")
            x = block(x)
        return x


class SwinUNet(nn.Module):
    """images (B, size, size, C) -> Outputs with logits (B, size, size, targets).

    Attributes:
      size: pixels, a multiple of 32.
      width: numbers of a token in the finest stage; the coarser ones have 2, 4, 8 times as many.
      depths: blocks of each stage, finest first; the decoder's three stages have those of the encoder's first three.
      attention_heads: of each stage.
      window: pixels of a window's side, at most.
    """

    targets: int = 1
    size: int = 224
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 2, 2)
    attention_heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        del train  # layer normalisation, and no dropout: there is no difference
        self._check(images)
        widths = [self.width * 2**stage for stage in range(STAGES)]
        x = Convolution(self.width, (PATCH, PATCH), PATCH, dtype=self.dtype, name="patch")(images)
        x = LayerNorm(self.dtype, name="patch_norm")(x)
        skips = []
        for stage in range(STAGES):
            if stage:
                skips.append(x)
                x = PatchMerging(self.dtype, name=f"merge{stage}")(x)
            x = self._stage(stage, f"encoder{stage + 1}")(x)
        x = LayerNorm(self.dtype, name="bottom_norm")(x)
        for stage in reversed(range(STAGES - 1)):
            x = PatchExpanding(widths[stage], 2, self.dtype, name=f"expand{stage + 1}")(x)
            x = jnp.concatenate([x, skips[stage]], axis=-1)
            x = Linear(widths[stage], dtype=self.dtype, name=f"fuse{stage + 1}")(x)
            x = self._stage(stage, f"decoder{stage + 1}")(x)
        x = LayerNorm(self.dtype, name="top_norm")(x)
        x = PatchExpanding(self.width, PATCH, self.dtype, name="expand0")(x)
        return Outputs(LogitHead(self.targets, name="head")(x))

    def _stage(self, stage: int, name: str) -> Stage:
        return Stage(self.depths[stage], self.attention_heads[stage], self.window, self.dtype, name=name)

    def _check(self, images: jax.Array) -> None:
        height, width = images.shape[1:3]
        if height % MULTIPLE or width % MULTIPLE:
            raise UserError(f"images of {height} x {width}: swin_unet takes heights and widths that {MULTIPLE} divides")
        if (height, width) != (self.size, self.size):
            raise UserError(
                f"images of {height} x {width}: this swin_unet was built for {self.size} x {self.size}, which its "
                "windows fix; set data.size to the images' size"
            )
        if len(self.depths) != STAGES or len(self.attention_heads) != STAGES:
            raise UserError(
                f"model.depths and model.attention_heads: swin_unet has {STAGES} stages, give {STAGES} numbers"
            )


NETWORK = Network("swin_unet", SwinUNet, "slice", multiple=MULTIPLE)

NOTE = (
    "The column 'Param (M)' is size in MiB at float32, and counts the authors' buffers (masks and index tables, "
    "0.47 M numbers = 1.8 MiB), which are constants here."
)
CATALOGUE = (
    Entry(
        "swin_unet",
        "swin_unet",
        224,
        (2, 2),
        published=(Published("MDANet, Table 1", mib=106.0, gmac=6.14, note=NOTE),),
    ),
    Entry(
        "swin_unet/isles2022",
        "swin_unet",
        224,
        (1, 1),
        published=(
            Published(
                "MDANet, Table 2",
                mib=105.4,
                gmac=6.10,
                note=NOTE + " 112 pixels, the size of that table, are not possible: 6.10 G are those of 224.",
            ),
        ),
    ),
)
