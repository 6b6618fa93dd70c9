"""The cross-domain dual network: ADC and DWI encoded apart, segmented each for itself, joined by cross-attention.

Gomez et al., "Ischemic Stroke Segmentation from a Cross-Domain Representation in Multimodal Diffusion Studies",
MICCAI 2023.  Its equation of cross-attention, X_re = sigmoid(W_re relu(W_e X_e + W_d X_d)) X_e, is
`nn.attention.AdditiveGate` of full width; its eq. 1 is the focal loss in `jaxstroke.losses`.

From the paper: two encoders and two decoders of 32 to 512 filters with a bottleneck of 1024, residual blocks of
3 x 3 convolutions with BatchNorm and ReLU, one latent map by concatenation of both encoders (V1), gates in the decoder
(unimodal, V1), between the encoders (V2), or both (V3).
As the authors' published code shows: the bottleneck is not pooled and the skips end at 256; average pooling, nearest
upsampling, a block before and a block after each skip, dropout 0.3 at the end of a block, BatchNorm with momentum 0.99
and epsilon 1e-3, Glorot initialisation; in V2 and V3 each decoder starts from its own bottleneck.  Where the text says
otherwise two options follow it: `literal` (five pools and five skips, down to 7 x 7) and `joint` (V2 and V3 start from
the concatenation too; the lines of the listing that end in `_literal` have both).
Ours: in the residual block, what is added to each convolution's result is that convolution's own input.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError
from jaxstroke.models.nn.blocks import LogitHead
from jaxstroke.models.nn.gated_unet import DecoderLevel, Encoder, Style, check_divisible
from jaxstroke.models.nn.resize import average_pool, upsample_nearest
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network


class CrossDomainNet(nn.Module):
    """(B, H, W, C) -> logits (B, H, W, K): one encoder, one decoder and one target for each modality group.

    `version` says where attention acts: in the decoders (unimodal, v1), between the encoders (v2), in both (v3).
    """

    groups: tuple[int, ...]
    targets: int
    version: Literal["unimodal", "v1", "v2", "v3"] = "v1"
    literal: bool = False
    joint: bool = False
    width: int = 32
    dropout: float = 0.3
    momentum: float = 0.99
    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        self._check(images)
        style = Style(
            residual=True,
            dropout=self.dropout,
            initializer="glorot",
            momentum=self.momentum,
            epsilon=1e-3,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        encoded = [
            Encoder(self._widths(), style, pool=average_pool, pool_last=self.literal, name=f"encoder{number}")(
                group, train=train
            )
            for number, group in enumerate(self._split(images), start=1)
        ]
        bottlenecks = [levels[-1] for levels in encoded]
        if self.version == "v1" or (self.joint and self.version != "unimodal"):
            bottlenecks = [jnp.concatenate(bottlenecks, axis=-1)] * len(bottlenecks)
        skips = [levels[: self._depth()] for levels in encoded]
        if self.version in ("v2", "v3"):
            skips = self._exchange(skips[0], skips[1], style, train=train)
        logits = [
            Decoder(style, self.version != "v2", name=f"decoder{number}")(bottleneck, skip, train=train)
            for number, (bottleneck, skip) in enumerate(zip(bottlenecks, skips, strict=True), start=1)
        ]
        return Outputs(jnp.concatenate(logits, axis=-1))

    def _exchange(
        self, first: list[jax.Array], second: list[jax.Array], style: Style, *, train: bool
    ) -> list[list[jax.Array]]:
        """Attention between the encoders: what passes of one modality's skip is decided by the other's."""
        refined: list[list[jax.Array]] = [[], []]
        for level, (one, other) in enumerate(zip(first, second, strict=True), start=1):
            features = one.shape[-1]
            refined[0].append(style.gate(features, f"exchange1_level{level}")(other, one, train=train).features)
            refined[1].append(style.gate(features, f"exchange2_level{level}")(one, other, train=train).features)
        return refined

    def _widths(self) -> tuple[int, ...]:
        return tuple(self.width * 2**level for level in range(6))

    def _depth(self) -> int:
        """How often the map is halved, and so how many skips there are."""
        return 5 if self.literal else 4

    def _split(self, images: jax.Array) -> list[jax.Array]:
        return jnp.split(images, [self.groups[0]], axis=-1) if len(self.groups) == 2 else [images]

    def _check(self, images: jax.Array) -> None:
        expected = 1 if self.version == "unimodal" else 2
        if len(self.groups) != expected or self.targets != expected:
            raise UserError(
                f"model.version={self.version}: it takes {expected} modality group(s) in data.groups and as many "
                f"targets in data.targets, and there are {len(self.groups)} and {self.targets}"
            )
        check_divisible(images, 2 ** self._depth(), "cross_domain")


class Decoder(nn.Module):
    """From a bottleneck and the skips, finest first, to the logits (B, H, W, 1) of one target."""

    style: Style
    gated: bool

    @nn.compact
    def __call__(self, x: jax.Array, skips: list[jax.Array], *, train: bool) -> jax.Array:
        for level in range(len(skips), 0, -1):
            skip = skips[level - 1]
            x, _ = DecoderLevel(skip.shape[-1], self.style, upsample_nearest, self.gated, name=f"level{level}")(
                x, skip, train=train
            )
        return LogitHead(1, initializer=self.style.initializer, name="head")(x)


NETWORK = Network("cross_domain", CrossDomainNet, "slice", multiple=16)

CATALOGUE = tuple(
    Entry(
        f"cross_domain/{version}{suffix}",
        "cross_domain",
        224,
        (1,) if version == "unimodal" else (1, 1),
        {"version": version, **options, **({"joint": True} if suffix and version in ("v2", "v3") else {})},
        targets=1 if version == "unimodal" else 2,
    )
    for version in ("unimodal", "v1", "v2", "v3")
    for suffix, options in (("", {}), ("_joint", {}), ("_literal", {"literal": True}))
    if not (suffix == "_joint" and version in ("unimodal", "v1"))
)
