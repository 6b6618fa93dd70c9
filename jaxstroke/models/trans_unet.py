"""TransUNet: a convolutional encoder, a transformer on its deepest map, a U-Net decoder (Chen et al., 2021).

    z_0 = tokens of the deepest map, linearly projected, + position embedding
    z'_l = z_{l-1} + MSA(LN(z_{l-1})),  z_l = z'_l + MLP(LN(z'_l))        (eqs 1 to 3 of the paper; GELU)

LN(z_L) is laid out as a map again, brought to 512 channels and led up four times (bilinear x2, corners aligned,
conv3x3-BN-ReLU twice) past the skips at 1/8, 1/4 and 1/2.  Two encoders:

- "light", the default: a 7 x 7 convolution with stride 2 (128 channels) and three bottlenecks with stride 2 whose 3 x 3
  convolutions have full width (256, 512, 1024), then 4 layers of width 1024 with 4 heads and an MLP of 512.  It is the
  layout of a public reimplementation whose size MDANet's tables print.
- "resnet50": the paper's R50-ViT-B/16 (entry `trans_unet/paper`): units 3, 4, 9 of 256, 512, 1024 channels with
  group normalisation and standardised weights, and 12 layers of width 768 with 12 heads and an MLP of 3072.

Differences from the paper: no pretrained weights; no dropout (the authors' code has 0.1 in the MLP, the text none); its
1/4 map, 55 pixels padded to 56 by the authors, is 56 here; decoder convolutions have a bias.
The position embedding fixes the size: a network is built for `size` x `size` pixels.  Any size of 16 or more will do.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError
from jaxstroke.models.nn.batch_norm_unet import require_pixels
from jaxstroke.models.nn.blocks import Conv, ConvNormAct, DoubleConv
from jaxstroke.models.nn.precision import at_least_float32
from jaxstroke.models.nn.resize import resize_bilinear
from jaxstroke.models.nn.resnet import Bottleneck, ConvNorm, max_pool_3x3
from jaxstroke.models.nn.transformer import TOKEN_KERNEL, LayerNorm, Linear, TransformerBlock
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

RESNET50_UNITS = (3, 4, 9)  # the paper's hybrid has no fourth stage; its units stand in the third


class LightEncoder(nn.Module):
    """(B, H, W, C) -> maps at 1/2, 1/4, 1/8, 1/16 of w, 2w, 4w, 8w channels."""

    width: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        x = nn.relu(ConvNorm(self.width, 7, 2, name="stem", **settings)(x, train=train))
        levels = [x]
        for stage in (1, 2, 3):
            features = self.width * 2**stage
            x = Bottleneck(features, features, 2, name=f"stage{stage}", **settings)(x, train=train)
            levels.append(x)
        return levels


class ResNet50Encoder(nn.Module):
    """(B, H, W, C) -> maps at 1/2, 1/4, 1/8, 1/16 of w, 4w, 8w, 16w channels."""

    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        x = nn.relu(ConvNorm(self.width, 7, 2, norm="group", dtype=self.dtype, name="stem")(x, train=train))
        levels = [x]
        x = max_pool_3x3(x)
        for stage, units in enumerate(RESNET50_UNITS, start=1):
            inner = self.width * 2 ** (stage - 1)
            for unit in range(1, units + 1):
                stride = 2 if stage > 1 and unit == 1 else 1
                block = Bottleneck(
                    4 * inner, inner, stride, norm="group", dtype=self.dtype, name=f"stage{stage}_{unit}"
                )
                x = block(x, train=train)
            levels.append(x)
        return levels


class TransUNet(nn.Module):
    """images (B, size, size, C) -> Outputs with logits (B, size, size, targets).

    Attributes:
      size: pixels; the position embedding has ceil(size / 16)^2 rows.
      backbone: the encoder, "light" or "resnet50", see above.
      width: channels of the encoder's finest map.
      hidden, mlp, layers, attention_heads: of the transformer.
      decoder: channels of its input and of its four levels, coarsest first.
    """

    targets: int = 1
    size: int = 224
    backbone: Literal["light", "resnet50"] = "light"
    width: int = 128
    hidden: int = 1024
    mlp: int = 512
    layers: int = 4
    attention_heads: int = 4
    decoder: tuple[int, ...] = (512, 256, 128, 64, 16)
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        require_pixels(images, 16)
        if images.shape[1:3] != (self.size, self.size):
            raise UserError(
                f"images of {images.shape[1]} x {images.shape[2]}: this trans_unet was built for "
                f"{self.size} x {self.size}, which its position embedding fixes; set data.size to the images' size"
            )
        if self.backbone == "light":
            *skips, x = LightEncoder(self.width, self.axis_name, self.dtype, name="encoder")(images, train=train)
        else:
            *skips, x = ResNet50Encoder(self.width, self.dtype, name="encoder")(images, train=train)
        x = self._transform(x)

        settings: dict[str, Any] = dict(axis_name=self.axis_name, dtype=self.dtype)
        first, *widths = self.decoder
        x = ConvNormAct(first, name="bridge", **settings)(x, train=train)
        for number, (features, skip) in enumerate(zip(widths[:-1], reversed(skips), strict=True), start=1):
            x = resize_bilinear(x, skip.shape[-3:-1])
            x = jnp.concatenate([x, skip], axis=-1)
            x = DoubleConv(features, name=f"decoder{number}", **settings)(x, train=train)
        x = resize_bilinear(x, images.shape[-3:-1])
        x = DoubleConv(widths[-1], name=f"decoder{len(widths)}", **settings)(x, train=train)
        x = at_least_float32(x)
        return Outputs(Conv(self.targets, 3, dtype=x.dtype, name="head")(x))

    def _transform(self, x: jax.Array) -> jax.Array:
        """(B, h, w, C) -> (B, h, w, hidden) by way of h * w tokens, row by row."""
        batch, height, width, _ = x.shape
        tokens = Linear(self.hidden, dtype=self.dtype, name="embed")(x).reshape(batch, height * width, self.hidden)
        position = self.param("position_embedding", TOKEN_KERNEL, (1, height * width, self.hidden), jnp.float32)
        tokens = tokens + position.astype(tokens.dtype)
        for number in range(1, self.layers + 1):
            block = TransformerBlock(self.attention_heads, self.mlp, self.dtype, name=f"layer{number}")
            tokens = block(tokens)
        tokens = LayerNorm(self.dtype, name="norm")(tokens)
        return tokens.reshape(batch, height, width, self.hidden)


NETWORK = Network("trans_unet", TransUNet, "slice")

PAPER = {
    "backbone": "resnet50",
    "width": 64,
    "hidden": 768,
    "mlp": 3072,
    "layers": 12,
    "attention_heads": 12,
}
NOTE = (
    "The column 'Param (M)' is size in MiB at float32; the paper's twelve layers on ResNet-50 would be 401.6. Our "
    "operations, attention's products included, are 10 to 12 % above the printed ones: what the authors' counter "
    "left out is not known."
)
CATALOGUE = (
    Entry(
        "trans_unet",
        "trans_unet",
        224,
        (2, 2),
        published=(Published("MDANet, Table 1", mib=175.3, gmac=19.19, note=NOTE),),
    ),
    Entry(
        "trans_unet/isles2022",
        "trans_unet",
        112,
        (1, 1),
        published=(Published("MDANet, Table 2", mib=175.3, gmac=4.61, note=NOTE),),
    ),
    Entry(
        "trans_unet/paper",
        "trans_unet",
        224,
        (3,),
        PAPER,
        published=(
            Published(
                "TransUNet, authors' code",
                parameters=105.28e6,
                note="R50-ViT-B/16; 105.28 M is the size commonly reported for the authors' code with 9 classes.",
            ),
        ),
    ),
)
