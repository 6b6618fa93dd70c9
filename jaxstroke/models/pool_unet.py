"""Pool-UNet, approximately: a U-Net whose encoder is a PoolFormer (Liu et al., ACAIT 2022).

What is known: global features come from "an advanced Transformer-like architecture", a PoolFormer, and are joined with
those of a convolutional decoder.  The encoder here is PoolFormer-S12 (Yu et al., CVPR 2022): patches by a 7 x 7
convolution with stride 4, then 3 x 3 with stride 2; 64, 128, 320, 512 channels; 2, 2, 6, 2 blocks

    y = x + s1 * (mean3x3(N(x)) - N(x)),   z = y + s2 * MLP(N(y))

N is GroupNorm of one group, s1 and s2 learned for each channel from 1e-5, the MLP two 1 x 1 convolutions with GELU
between, four times as wide; the 3 x 3 mean leaves padding out.
Ours: bilinear up (corners aligned), concatenation, conv3x3-BN-ReLU twice, as U-Net, and two more levels of 32 and 16
channels without skips up to full size.  Left out: the authors' "DSE-RES" module, of which we found no description, and
pretrained weights.

Any height and width of 32 pixels or more will do.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.batch_norm_unet import require_pixels
from jaxstroke.models.nn.blocks import Convolution, DoubleConv, LogitHead
from jaxstroke.models.nn.norm import GroupNorm
from jaxstroke.models.nn.resize import resize_bilinear
from jaxstroke.models.nn.transformer import Perceptron
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LAYER_SCALE = 1e-5
S12_PARTS = (2, 4, 10, 16)  # channels of the stages, in units of `width` = 32
MLP_RATIO = 4
FIRST_PATCH = (7, 4, 2)  # kernel, stride, padding
LATER_PATCH = (3, 2, 1)


class GlobalNorm(nn.Module):
    """GroupNorm of one group: statistics over a whole example, a scale and an offset for each channel."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return GroupNorm(1, dtype=self.dtype, name="norm")(x)


class PoolFormerBlock(nn.Module):
    """(B, H, W, C) -> (B, H, W, C), see above."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        normalised = GlobalNorm(self.dtype, name="norm1")(x)
        x = x + self._scale("scale1", x) * (_mean3x3(normalised) - normalised)
        normalised = GlobalNorm(self.dtype, name="norm2")(x)
        hidden = MLP_RATIO * x.shape[-1]
        return x + self._scale("scale2", x) * Perceptron(hidden, self.dtype, name="perceptron")(normalised)

    def _scale(self, name: str, x: jax.Array) -> jax.Array:
        scale = self.param(name, nn.initializers.constant(LAYER_SCALE), (x.shape[-1],), jnp.float32)
        return scale.astype(x.dtype)[None, None, None]


def _mean3x3(x: jax.Array) -> jax.Array:
    # At stride 1 SAME is a padding of one all around.
    return nn.avg_pool(x, (3, 3), strides=(1, 1), padding="SAME", count_include_pad=False)


class PoolUNet(nn.Module):
    """images (B, H, W, C) -> Outputs with logits (B, H, W, targets).

    Attributes:
      width: half the channels of the encoder's finest map; 32 is PoolFormer-S12.
      depths: blocks of the encoder's four stages, finest first.
    """

    targets: int = 1
    width: int = 32
    depths: tuple[int, ...] = (2, 2, 6, 2)
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        require_pixels(images, 32)
        *skips, x = self._encode(images)
        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        for number, skip in reversed(list(enumerate(skips, start=1))):
            x = jnp.concatenate([skip, resize_bilinear(x, skip.shape[-3:-1])], axis=-1)
            x = DoubleConv(skip.shape[-1], name=f"decoder{number}", **settings)(x, train=train)
        height, width = images.shape[-3:-1]
        x = resize_bilinear(x, ((height + 1) // 2, (width + 1) // 2))
        x = DoubleConv(self.width, name="half", **settings)(x, train=train)
        x = resize_bilinear(x, (height, width))
        x = DoubleConv(self.width // 2, name="full", **settings)(x, train=train)
        return Outputs(LogitHead(self.targets, name="head")(x))

    def _encode(self, x: jax.Array) -> list[jax.Array]:
        """The maps at 1/4, 1/8, 1/16 and 1/32."""
        levels = []
        for stage, (parts, depth) in enumerate(zip(S12_PARTS, self.depths, strict=True), start=1):
            features = parts * self.width
            kernel, stride, padding = FIRST_PATCH if stage == 1 else LATER_PATCH
            x = Convolution(features, (kernel, kernel), stride, padding, dtype=self.dtype, name=f"patch{stage}")(x)
            for number in range(1, depth + 1):
                x = PoolFormerBlock(self.dtype, name=f"stage{stage}_{number}")(x)
            levels.append(x)
        return levels


NETWORK = Network("pool_unet", PoolUNet, "slice")

NOTE = "Neither MDANet nor the abstract prints a size; the encoder is PoolFormer-S12, the decoder ours."
CATALOGUE = (Entry("pool_unet", "pool_unet", 224, (2, 2), published=(Published("MDANet, Table 1", note=NOTE),)),)
