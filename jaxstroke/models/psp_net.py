"""PSPNet, approximately as entered in ISLES 2018 with the focal loss (Abulnaga and Rubin, BrainLes 2018).

What the paper fixes: PSPNet (Zhao et al., CVPR 2017), that is a dilated residual encoder and pyramid pooling, trained
with the focal loss on CT and its perfusion maps.  Here: ResNet-50 (units 3, 4, 6, 3) whose last two stages dilate their
3 x 3 convolutions by 2 and 4 instead of striding, so that the deepest map is 1/8; its means over 1, 2, 3 and 6 bins a
side, each brought by conv1x1-BN-ReLU to a quarter of the channels and bilinearly (corners aligned) back to size, are
concatenated to it; conv3x3-BN-ReLU to 512, a 1 x 1 convolution, bilinear x8.

Ours: one 7 x 7 convolution as stem where PSPNet has three of 3 x 3, no auxiliary loss, no dropout, and no pretraining,
which the paper found to matter.  The focal loss is the experiment's.  Any height and width of 8 pixels or more will do.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.batch_norm_unet import require_pixels
from jaxstroke.models.nn.blocks import ConvNormAct, LogitHead
from jaxstroke.models.nn.resize import adaptive_average_pool, resize_bilinear
from jaxstroke.models.nn.resnet import Bottleneck, ConvNorm, max_pool_3x3
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)
BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """(B, H, W, C) -> (B, H, W, 2C): the map itself and its means over coarser and finer bins."""

    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        parts = [x]
        for bins in BINS:
            pooled = adaptive_average_pool(x, bins)
            reduce = ConvNormAct(
                x.shape[-1] // len(BINS), 1, axis_name=self.axis_name, dtype=self.dtype, name=f"bins{bins}"
            )
            parts.append(resize_bilinear(reduce(pooled, train=train), x.shape[-3:-1]))
        return jnp.concatenate(parts, axis=-1)


class PSPNet(nn.Module):
    """images (B, H, W, C) -> Outputs with logits (B, H, W, targets).

    Attributes:
      width: channels of the stem; the deepest map has 32 times as many.
      units: bottlenecks of each stage.
    """

    targets: int = 1
    width: int = 64
    units: tuple[int, ...] = (3, 4, 6, 3)
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        require_pixels(images, 8)
        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        x = nn.relu(ConvNorm(self.width, 7, 2, name="stem", **settings)(images, train=train))
        x = max_pool_3x3(x)
        stages = zip(self.units, STRIDES, DILATIONS, strict=True)
        for stage, (units, stride, dilation) in enumerate(stages, start=1):
            inner = self.width * 2 ** (stage - 1)
            for unit in range(1, units + 1):
                block = Bottleneck(
                    4 * inner,
                    inner,
                    stride if unit == 1 else 1,
                    dilation,
                    name=f"stage{stage}_{unit}",
                    **settings,
                )
                x = block(x, train=train)
        x = PyramidPooling(name="pyramid", **settings)(x, train=train)
        x = ConvNormAct(8 * self.width, name="fuse", **settings)(x, train=train)
        logits = LogitHead(self.targets, name="head")(x)
        return Outputs(resize_bilinear(logits, images.shape[-3:-1]))


NETWORK = Network("psp_net", PSPNet, "slice")

NOTE = "Abulnaga and Rubin, quoted by MDANet without a size; the encoder is that of PSPNet with ResNet-50."
CATALOGUE = (Entry("psp_net", "psp_net", 224, (4, 1), published=(Published("MDANet, Table 1", note=NOTE),)),)
