"""MDANet, as `jaxstroke.models.mda_net`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.attention import NonLocalAttention, TransformerLayer
from jaxstroke.torch_twin.nn.blocks import Conv, ConvNormAct, DoubleConv, LogitHead
from jaxstroke.torch_twin.nn.graph import ChannelGraph, SpaceGraph
from jaxstroke.torch_twin.nn.resize import max_pool, resize_bilinear
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LEVELS = 5


class MDANet(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W); `features` holds the first-stage maps.

    Between the stems and the fusion the two groups lie in the batch, (2 B, C, H, W): one encoder, one set of
    statistics.
    """

    def __init__(
        self, *, groups: tuple[int, ...], targets: int, size: int, blocks: str, skip: str, fusion: str, width: int
    ) -> None:
        super().__init__()
        self.first = groups[0]
        widths = [width * 2**level for level in range(LEVELS)]
        self.stem1 = ConvNormAct(groups[0], width)
        self.stem2 = ConvNormAct(groups[1], width)
        block = MultiScaleConv if blocks == "multi_scale" else DoubleConv
        for level in range(2, LEVELS + 1):
            self.add_module(f"encoder{level}", block(widths[level - 2], widths[level - 1]))
        pixels = (size // 2 ** (LEVELS - 1)) ** 2
        self.fusion = fusion
        if fusion == "graph":
            self.channel_graph = ChannelGraph(widths[-1], 2, 2 * width, 4 * width)
            self.space_graph = SpaceGraph(widths[-1], 2, pixels)
        elif fusion == "transformer":
            self.transformer = TransformerFusion(widths[-1], pixels)
        elif fusion == "non_local":
            self.non_local = NonLocalFusion(widths[-1])
        for level in range(1, LEVELS):
            self.add_module(f"skip{level}", DifferenceAwareSkip(widths[level - 1], skip))
            self.add_module(f"decoder{level}", DoubleConv(3 * widths[level - 1], widths[level - 1]))
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor) -> Outputs:
        stems = [self.stem1(images[:, : self.first]), self.stem2(images[:, self.first :])]
        x = torch.stack(stems, dim=1).flatten(0, 1)
        levels = [x]
        for level in range(2, LEVELS + 1):
            x = self.get_submodule(f"encoder{level}")(max_pool(x))
            levels.append(x)
        fused = self._fuse(_paired(levels.pop()))
        x = fused[:, 0] - fused[:, 1]
        for level in range(LEVELS - 1, 0, -1):
            pair = _paired(levels.pop())
            x = resize_bilinear(x, pair.shape[-2:])
            skip = self.get_submodule(f"skip{level}")(pair, x)
            x = self.get_submodule(f"decoder{level}")(torch.cat([skip, x], dim=1))
        return Outputs(self.head(x), features={"group1": stems[0], "group2": stems[1]})

    def _fuse(self, pair: Tensor) -> Tensor:
        if self.fusion == "graph":
            return self.space_graph(self.channel_graph(pair))
        if self.fusion == "transformer":
            return self.transformer(pair)
        return self.non_local(pair) if self.fusion == "non_local" else pair


class MultiScaleConv(nn.Module):
    """Branches of one, two and three conv3x3-BN-ReLU side by side, concatenated to `features`."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        third = features // 3
        for depth, width in ((1, third), (2, third), (3, features - 2 * third)):
            for step in range(1, depth + 1):
                before = channels if step == 1 else width
                self.add_module(f"branch{depth}_block{step}", ConvNormAct(before, width))

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        for depth in (1, 2, 3):
            branch = x
            for step in range(1, depth + 1):
                branch = self.get_submodule(f"branch{depth}_block{step}")(branch)
            branches.append(branch)
        return torch.cat(branches, dim=1)


class DifferenceAwareSkip(nn.Module):
    """F_D + W F_D with W = sigmoid(theta1(theta2(F_D) + theta3(F_de))); both groups' maps are (B, 2, C, H, W)."""

    def __init__(self, channels: int, combination: str) -> None:
        super().__init__()
        self.combination = combination
        self.theta2 = Conv(channels, channels // 2, 1)
        self.theta3 = Conv(2 * channels, channels // 2, 1)
        self.theta1 = Conv(channels // 2, 1, 1)
        if combination == "concat":
            self.mix = Conv(2 * channels, channels, 1)

    def forward(self, pair: Tensor, decoded: Tensor) -> Tensor:
        difference = self._combine(pair[:, 0], pair[:, 1])
        attention = torch.sigmoid(self.theta1(self.theta2(difference) + self.theta3(decoded)))
        return difference + attention * difference

    def _combine(self, first: Tensor, second: Tensor) -> Tensor:
        if self.combination == "subtract":
            return first - second
        return first + second if self.combination == "add" else self.mix(torch.cat([first, second], dim=1))


class NonLocalFusion(nn.Module):
    """Each group on itself, then on the other; four blocks, none shared."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.self1, self.self2 = NonLocalAttention(channels), NonLocalAttention(channels)
        self.cross1, self.cross2 = NonLocalAttention(channels), NonLocalAttention(channels)

    def forward(self, pair: Tensor) -> Tensor:
        one, other = (tokens.transpose(1, 2) for tokens in pair.flatten(3).unbind(1))
        one, other = self.self1(one, one), self.self2(other, other)
        one, other = self.cross1(one, other), self.cross2(other, one)
        return torch.stack([one, other], dim=1).transpose(2, 3).unflatten(3, pair.shape[-2:])


class TransformerFusion(nn.Module):
    """A layer of self-attention, then one of cross-attention, shared by the groups."""

    def __init__(self, channels: int, pixels: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(channels, pixels))
        self.add_module("self", TransformerLayer(channels, heads=8, mlp_ratio=8))
        self.cross = TransformerLayer(channels, heads=8, mlp_ratio=8)

    def forward(self, pair: Tensor) -> Tensor:
        tokens = (pair.flatten(3) + self.position.to(pair.dtype)).transpose(2, 3)
        tokens = self.get_submodule("self")(tokens, tokens)
        tokens = self.cross(tokens, tokens.flip(1))
        return tokens.transpose(2, 3).unflatten(3, pair.shape[-2:])


def _paired(x: Tensor) -> Tensor:
    """(2 B, C, H, W) -> (B, 2, C, H, W)."""
    return x.unflatten(0, (-1, 2))


TWIN = Twin("mda_net", MDANet, Small(64, {"width": 8}))
