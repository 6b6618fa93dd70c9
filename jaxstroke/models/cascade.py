"""The cascade cross-attentional network, one stage of it: an encoder-decoder with additive cross-attention as skips.

Gomez et al., "Deep Cascade Cross-attentional Architecture to Segment Acute Ischemic Stroke Lesions from CTP
Sequences".  Section 2.1's X_re = X_e * sigmoid(W relu(W_e X_e + W_d X_d)) is `nn.attention.AdditiveGate`; section 2.2's
multilevel refinement is `side_logits` with the loss `multilevel`; section 2.3's synthetic map is
`features["synthetic"]`, which a second stage of this same network takes as one more input channel.

From the paper: six levels of 32 to 1024 filters, two convolutions with BatchNorm and ReLU a block, 2 x 2 max-pools,
bilinear upsampling before the blocks of the decoder, gates on the skips, an output at every decoder level.
Ours: a block before and a block after each skip as in the same authors' cross-domain network, half-pixel-centred
bilinear interpolation, PyTorch's initialisation and BatchNorm constants, no residual (the option adds it), and, of the
synthetic map, that it carries no gradient and is brought to 0..1 slice by slice.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.blocks import LogitHead
from jaxstroke.models.nn.gated_unet import DecoderLevel, Encoder, Style
from jaxstroke.models.nn.precision import at_least_float32
from jaxstroke.models.nn.resize import max_pool, resize_bilinear
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network

LEVELS = 6
RANGE_FLOOR = 1e-6  # a constant map comes out as zeros


class CascadeNet(nn.Module):
    """(B, H, W, C) -> logits (B, H, W, K); modality groups are stacked at the input.

    `refinement` gives six side logits, bottleneck first and the finest equal to the logits; `attention` puts gates on
    the skips and gives the synthetic map (B, H, W, 1); `residual` makes the blocks residual.
    """

    targets: int
    refinement: bool = True
    attention: bool = True
    residual: bool = False
    width: int = 32
    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        style = Style(residual=self.residual, axis_name=self.axis_name, dtype=self.dtype)
        widths = tuple(self.width * 2**level for level in range(LEVELS))
        *skips, x = Encoder(widths, style, max_pool, name="encoder")(images, train=train)
        levels, gate = [x], None
        for level in range(LEVELS - 1, 0, -1):
            x, gate = DecoderLevel(widths[level - 1], style, upsample_bilinear, self.attention, name=f"decoder{level}")(
                x, skips[level - 1], train=train
            )
            levels.append(x)
        logits = LogitHead(self.targets, name="head")(x)
        features = {}
        if gate is not None:
            features["synthetic"] = synthetic_map(gate.similarity)
            self.sow("intermediates", "synthetic", features["synthetic"])
        side_logits = (*self._coarse_logits(levels), logits) if self.refinement else ()
        return Outputs(logits, side_logits, features)

    def _coarse_logits(self, levels: list[jax.Array]) -> list[jax.Array]:
        """The paper interpolates, then convolves 1 x 1.  The two commute; this order takes a sixtieth of it."""
        *coarse, finest = levels
        size = (finest.shape[-3], finest.shape[-2])
        return [
            resize_bilinear(LogitHead(self.targets, name=f"side_head{LEVELS - index}")(x), size, align_corners=False)
            for index, x in enumerate(coarse)
        ]


def upsample_bilinear(x: jax.Array) -> jax.Array:
    height, width = x.shape[-3:-1]
    return resize_bilinear(x, (2 * height, 2 * width), align_corners=False)


def synthetic_map(similarity: jax.Array) -> jax.Array:
    """The finest gate's positive similarities (B, H, W, C), averaged over channels and brought to 0..1 a slice.

    No gradient passes: the second stage trains on the map as on an image.
    """
    mean = jnp.mean(at_least_float32(similarity), axis=-1, keepdims=True)
    low, high = (extreme(mean, axis=(-3, -2), keepdims=True) for extreme in (jnp.min, jnp.max))
    return jax.lax.stop_gradient((mean - low) / jnp.maximum(high - low, RANGE_FLOOR))


NETWORK = Network("cascade", CascadeNet, "slice", multiple=32)

CATALOGUE = (
    Entry("cascade/plain", "cascade", 224, (5,), {"refinement": False, "attention": False}),
    Entry("cascade/mr", "cascade", 224, (5,), {"attention": False}),
    Entry("cascade", "cascade", 224, (5,)),
    Entry("cascade/stage2", "cascade", 224, (6,)),
    Entry("cascade/residual", "cascade", 224, (5,), {"residual": True}),
)
