"""PerfU-Net, approximately: from CT perfusion source images to a mask, without perfusion maps (de Vries et al., 2023).

"PerfU-Net: Baseline infarct estimation from CT perfusion source data for acute ischemic stroke", Med. Image Anal.
What its abstract fixes: a "symmetry-aware spatio-temporal" model that encodes the series and decodes a static map, and
"an attention module on the skip-connections to match the dimensions of the encoder and decoder".
Ours: the mirror image (left to right) is a second channel, which comes with the batch, as it is taken before any crop
or rotation; three levels of conv 3 x 3 x 3 - BN - ReLU twice over time and plane, 32, 64, 128 channels, with (2, 2, 2)
max-pooling between, in time as long as two time points are left; at each level the attention reduces time,

    F_l(x) = sum_t a_t(x) E_l(t, x),   a(x) = softmax over t of a 1 x 1 x 1 convolution of E_l(., x)

and a 2D U-Net decoder goes up from F_3 (bilinear with corners aligned).  MDANet quotes a Dice of 56.40 for it; its own
abstract gives 0.46 on the challenge's test set.

Any number of time points, and any height and width of 4 pixels or more, will do; the authors take 16 of 256 x 256.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from jaxstroke.models.nn.batch_norm_unet import Decoder, doubling_widths, require_pixels
from jaxstroke.models.nn.blocks import Convolution, LogitHead
from jaxstroke.models.nn.precision import at_least_float32
from jaxstroke.models.nn.resize import larger, max_pool
from jaxstroke.models.nn.volume import VolumeDoubleConv
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 3


class TimeAttention(nn.Module):
    """(B, T, H, W, C) -> (B, H, W, C), a weighted mean over time.

    Sows the weights (B, T, H, W, 1) as "time_weights".
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        score = Convolution(1, (1, 1, 1), dtype=self.dtype, name="score")(x)
        weights = nn.softmax(at_least_float32(score), axis=1)
        self.sow("intermediates", "time_weights", weights)
        return (weights.astype(x.dtype) * x).sum(axis=1)


class PerfUNet(nn.Module):
    """images (B, T, H, W, 2), a slice over time and its mirror image -> Outputs with logits (B, H, W, targets)."""

    targets: int = 1
    width: int = 32
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        require_pixels(images, 2 ** (LEVELS - 1))
        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        x, static = images, []
        for number, features in enumerate(doubling_widths(self.width, LEVELS), start=1):
            x = x if number == 1 else _pool_time(max_pool(x))
            x = VolumeDoubleConv(features, features, name=f"encoder{number}", **settings)(x, train=train)
            static.append(TimeAttention(self.dtype, name=f"reduce{number}")(x))
        x = Decoder(name="decoder", **settings)(static, train=train)
        return Outputs(LogitHead(self.targets, name="head")(x))


def _pool_time(x: jax.Array) -> jax.Array:
    """The maximum of time points two by two, an odd last one dropped: (B, T, ...) -> (B, T // 2, ...), if T > 1."""
    times = x.shape[1]
    if times < 2:
        return x
    return larger(x[:, 0 : times - 1 : 2], x[:, 1:times:2])


NETWORK = Network("perfu_net", PerfUNet, "series")

NOTE = "Quoted by MDANet without a size; widths are ours."
CATALOGUE = (
    Entry("perfu_net", "perfu_net", 256, (1,), depth=16, published=(Published("MDANet, Table 1", note=NOTE),)),
)
