"""MDANet: two modality groups through one encoder, segmented by their difference.

Zhang et al., "MDANet: Multimodal difference aware network for brain stroke segmentation", Biomedical Signal Processing
and Control 2024, https://doi.org/10.1016/j.bspc.2024.106383.

From the paper: a first stage for each group, then one shared encoder of multi-scale blocks (MSC); difference-aware
skips (DASC, eqs 1 to 3); a graph fusion block on channels, then on space (GCFB, eqs 4 to 7, in `nn.graph`), whose two
maps are subtracted before the decoder; a similarity loss on the first-stage maps (eq. 8, in `jaxstroke.losses`).
Found by counting: the paper's "Param (M)" is the size in MiB at float32.  With the widths below it comes out: 6,610,281
parameters = 25.2 MiB (25.3 printed), 11.1 G multiply-accumulates at 224 x 224 (11.22).
Ours, chosen to meet these sizes: base width 32 and five levels; a first stage of one convolution; MSC branches of one,
two and three convolutions, a third of the width each; halved width inside DASC; 64 channel nodes of width 128; bilinear
upsampling with corners aligned; a residual around each graph block.  The two groups' maps are stacked, so that
BatchNorm in the shared encoder sees both at once and keeps one set of statistics, in training as in use.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError
from jaxstroke.experiment.values import Range
from jaxstroke.models.nn.attention import NonLocalAttention, TransformerLayer
from jaxstroke.models.nn.blocks import Conv, ConvNormAct, DoubleConv, LogitHead
from jaxstroke.models.nn.graph import ChannelGraph, SpaceGraph, add_position
from jaxstroke.models.nn.resize import max_pool, resize_bilinear
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 5
TRANSFORMER_HEADS = 8  # ours: the paper does not say
TRANSFORMER_MLP_RATIO = 8  # met by counting

Combination = Literal["subtract", "add", "concat"]


class MDANet(nn.Module):
    """(B, H, W, C) -> logits (B, H, W, K); `features` holds the first-stage maps `group1` and `group2` (B, H, W, 32).

    `blocks`: multi-scale or U-Net's own (Table 3).  `skip`: how a skip joins the groups (Table 4).  `fusion`: what
    stands between encoder and decoder (Table 5).  The graph and the transformer are built for one `size`.
    """

    groups: tuple[int, ...]
    targets: int
    size: int
    blocks: Literal["multi_scale", "double"] = "multi_scale"
    skip: Combination = "subtract"
    fusion: Literal["graph", "transformer", "non_local", "none"] = "graph"
    width: Annotated[int, Range(2, 4096)] = 32
    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        self._check(images)
        settings: dict[str, Any] = {"dtype": self.dtype, "axis_name": self.axis_name}
        stems = [
            ConvNormAct(self.width, name=f"stem{number}", **settings)(group, train=train)
            for number, group in enumerate(jnp.split(images, [self.groups[0]], axis=-1), start=1)
        ]
        x = jnp.stack(stems, axis=1)  # (B, 2, H, W, width)
        levels = [x]
        block = MultiScaleConv if self.blocks == "multi_scale" else DoubleConv
        for level in range(2, LEVELS + 1):
            x = block(self.width * 2 ** (level - 1), name=f"encoder{level}", **settings)(max_pool(x), train=train)
            levels.append(x)
        fused = self._fuse(levels.pop())
        x = fused[:, 0] - fused[:, 1]
        self.sow("intermediates", "bottleneck_difference", x)
        for level in range(LEVELS - 1, 0, -1):
            pair = levels.pop()
            x = resize_bilinear(x, (pair.shape[-3], pair.shape[-2]))
            skip = DifferenceAwareSkip(self.skip, self.dtype, name=f"skip{level}")(pair, x)
            x = jnp.concatenate([skip, x], axis=-1)
            x = DoubleConv(pair.shape[-1], name=f"decoder{level}", **settings)(x, train=train)
        return Outputs(LogitHead(self.targets, name="head")(x), features={"group1": stems[0], "group2": stems[1]})

    def _fuse(self, pair: jax.Array) -> jax.Array:
        """(B, 2, h, w, C) -> the same shape, each group's map informed by the other's."""
        if self.fusion == "graph":
            channels = ChannelGraph(2 * self.width, 4 * self.width, self.dtype, name="channel_graph")
            return SpaceGraph(self.dtype, name="space_graph")(channels(pair))
        if self.fusion == "transformer":
            return TransformerFusion(self.dtype, name="transformer")(pair)
        return NonLocalFusion(self.dtype, name="non_local")(pair) if self.fusion == "non_local" else pair

    def _check(self, images: jax.Array) -> None:
        if len(self.groups) != 2:
            raise UserError(
                f"data.groups: mda_net compares two modality groups, and there are {len(self.groups)}; "
                "put the modalities in which the lesion is dark in one and the others in the other"
            )
        if images.shape[-3:-1] != (self.size, self.size):
            height, width = images.shape[-3:-1]
            raise UserError(
                f"data.size={self.size}: mda_net is built for this one size and cannot take images of "
                f"{height} x {width}; its graph has a node for each pixel of the coarsest map"
            )


class MultiScaleConv(nn.Module):
    """MSC, Fig. 3(a): branches of one, two and three conv3x3-BN-ReLU side by side, concatenated to `features`.

    Two branches have a third of the width, rounded down, and the deepest has the rest.
    """

    features: int
    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        third = self.features // 3
        branches = []
        for depth, width in ((1, third), (2, third), (3, self.features - 2 * third)):
            branch = x
            for step in range(1, depth + 1):
                branch = ConvNormAct(
                    width, dtype=self.dtype, axis_name=self.axis_name, name=f"branch{depth}_block{step}"
                )(branch, train=train)
            branches.append(branch)
        return jnp.concatenate(branches, axis=-1)


class DifferenceAwareSkip(nn.Module):
    """DASC: the groups' difference, refined where the decoder sees something.

    F_D = F_1 - F_2 (eq. 1), W = sigmoid(theta1(theta2(F_D) + theta3(F_de))) (eq. 2), F_D + W F_D (eq. 3), with thetas
    1 x 1 convolutions: theta2 C -> C/2, theta3 2C -> C/2, theta1 C/2 -> 1.  Takes both groups' maps (B, 2, H, W, C) and
    the decoder's (B, H, W, 2C); gives (B, H, W, C).  Table 4 puts a sum, or a 1 x 1 convolution of the concatenation,
    in the place of eq. 1.
    """

    combination: Combination = "subtract"
    dtype: Any = None

    @nn.compact
    def __call__(self, pair: jax.Array, decoded: jax.Array) -> jax.Array:
        difference = self._combine(pair[:, 0], pair[:, 1])
        inner = difference.shape[-1] // 2
        embedded = self._pointwise(inner, "theta2")(difference) + self._pointwise(inner, "theta3")(decoded)
        attention = nn.sigmoid(self._pointwise(1, "theta1")(embedded))
        self.sow("intermediates", "difference", difference)
        self.sow("intermediates", "attention", attention)
        return difference + attention * difference

    def _combine(self, first: jax.Array, second: jax.Array) -> jax.Array:
        if self.combination == "subtract":
            return first - second
        if self.combination == "add":
            return first + second
        return self._pointwise(first.shape[-1], "mix")(jnp.concatenate([first, second], axis=-1))

    def _pointwise(self, features: int, name: str) -> Conv:
        return Conv(features, 1, dtype=self.dtype, name=name)


class NonLocalFusion(nn.Module):
    """Table 5's non-local blocks: each group on itself, then on the other; four blocks, none shared."""

    dtype: Any = None

    @nn.compact
    def __call__(self, pair: jax.Array) -> jax.Array:
        batch, groups, height, width, channels = pair.shape
        tokens = [pair[:, group].reshape(batch, height * width, channels) for group in range(groups)]
        tokens = [NonLocalAttention(self.dtype, name=f"self{number}")(x, x) for number, x in enumerate(tokens, start=1)]
        tokens = [
            NonLocalAttention(self.dtype, name=f"cross{number}")(x, y)
            for number, (x, y) in enumerate(zip(tokens, tokens[::-1], strict=True), start=1)
        ]
        return jnp.stack(tokens, axis=1).reshape(pair.shape)


class TransformerFusion(nn.Module):
    """Table 5's transformer: a layer of self-attention, then one of cross-attention, shared by the groups."""

    dtype: Any = None

    @nn.compact
    def __call__(self, pair: jax.Array) -> jax.Array:
        tokens = add_position(self, pair)
        tokens = self._layer("self")(tokens, tokens)
        tokens = self._layer("cross")(tokens, tokens[:, ::-1])
        return tokens.reshape(pair.shape)

    def _layer(self, name: str) -> TransformerLayer:
        return TransformerLayer(TRANSFORMER_HEADS, TRANSFORMER_MLP_RATIO, self.dtype, name=name)


NETWORK = Network("mda_net", MDANet, "slice", multiple=16)

_TABLE_1 = (
    Published(
        "MDANet, Table 1", mib=25.3, gmac=11.22, note='printed as "Param (M)" and "FLOPs (G)"; read as MiB and GMAC'
    ),
)


def _table_5(mib: float, gmac: float) -> tuple[Published, ...]:
    return (Published("MDANet, Table 5", mib=mib, gmac=gmac, note='printed as "Param (M)"; read as MiB'),)


CATALOGUE = (
    Entry("mda_net", "mda_net", 224, (2, 2), published=_TABLE_1),
    Entry("mda_net/no_fusion", "mda_net", 224, (2, 2), {"fusion": "none"}, published=_table_5(22.5, 10.88)),
    Entry("mda_net/non_local", "mda_net", 224, (2, 2), {"fusion": "non_local"}, published=_table_5(27.6, 11.22)),
    Entry("mda_net/transformer", "mda_net", 224, (2, 2), {"fusion": "transformer"}, published=_table_5(61.7, 15.83)),
    Entry(
        "mda_net/isles2022",
        "mda_net",
        112,
        (1, 1),
        published=(
            Published(
                "MDANet, Table 2",
                mib=25.3,
                gmac=3.57,
                note="this figure is met at 128 px (3.61), the peers' figures of that table at 112 px",
            ),
        ),
    ),
)
