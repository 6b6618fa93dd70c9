"""The cross-domain dual network, as `jaxstroke.models.cross_domain`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.attention import AdditiveGate
from jaxstroke.torch_twin.nn.blocks import LogitHead
from jaxstroke.torch_twin.nn.gated_unet import DecoderLevel, Encoder, Style
from jaxstroke.torch_twin.nn.resize import average_pool, upsample_nearest
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin


class CrossDomainNet(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W): an encoder, a decoder and a target for each modality group."""

    def __init__(
        self,
        *,
        groups: tuple[int, ...],
        targets: int,
        version: str,
        literal: bool,
        joint: bool,
        width: int,
        dropout: float,
        momentum: float,
    ) -> None:
        super().__init__()
        if targets != len(groups):
            raise ValueError(f"{targets} targets for {len(groups)} modality groups")
        style = Style(residual=True, dropout=dropout, momentum=momentum, epsilon=1e-3)
        widths = [width * 2**level for level in range(6)]
        self.groups = groups
        self.depth = 5 if literal else 4
        self.together = version == "v1" or (joint and version != "unimodal")
        self.exchanges = version in ("v2", "v3")
        bottleneck = widths[-1] * (len(groups) if self.together else 1)
        for number, channels in enumerate(groups, start=1):
            self.add_module(f"encoder{number}", Encoder(channels, widths, style, average_pool, pool_last=literal))
            self.add_module(f"decoder{number}", Decoder(bottleneck, widths[: self.depth], style, version != "v2"))
            if self.exchanges:
                for level, features in enumerate(widths[: self.depth], start=1):
                    gate = AdditiveGate(features, features, features)
                    self.add_module(f"exchange{number}_level{level}", gate)

    def forward(self, images: Tensor) -> Outputs:
        encoded = [
            self.get_submodule(f"encoder{number}")(group)
            for number, group in enumerate(images.split(list(self.groups), dim=1), start=1)
        ]
        bottlenecks = [levels[-1] for levels in encoded]
        if self.together:
            bottlenecks = [torch.cat(bottlenecks, dim=1)] * len(bottlenecks)
        skips = [levels[: self.depth] for levels in encoded]
        if self.exchanges:
            skips = [self._refined(1, skips[0], by=skips[1]), self._refined(2, skips[1], by=skips[0])]
        logits = [
            self.get_submodule(f"decoder{number}")(bottleneck, skip)
            for number, (bottleneck, skip) in enumerate(zip(bottlenecks, skips, strict=True), start=1)
        ]
        return Outputs(torch.cat(logits, dim=1))

    def _refined(self, number: int, skips: list[Tensor], *, by: list[Tensor]) -> list[Tensor]:
        """One modality's skips, weighted by attention of the other's."""
        return [
            self.get_submodule(f"exchange{number}_level{level}")(other, one).features
            for level, (one, other) in enumerate(zip(skips, by, strict=True), start=1)
        ]


class Decoder(nn.Module):
    """From a bottleneck and the skips, finest first, to the logits (B, 1, H, W) of one target."""

    def __init__(self, bottleneck: int, widths: list[int], style: Style, gated: bool) -> None:
        super().__init__()
        # The map below the coarsest skip is the bottleneck, below any other the decoder's own.
        for level, (width, below) in enumerate(zip(widths, [*widths[1:], bottleneck], strict=True), start=1):
            self.add_module(f"level{level}", DecoderLevel(below, width, style, upsample_nearest, gated=gated))
        self.head = LogitHead(widths[0], 1)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for level in range(len(skips), 0, -1):
            x, _ = self.get_submodule(f"level{level}")(x, skips[level - 1])
        return self.head(x)


TWIN = Twin("cross_domain", CrossDomainNet, Small(64, {"width": 4}))
