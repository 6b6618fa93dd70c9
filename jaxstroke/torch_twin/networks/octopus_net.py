"""OctopusNet, as `jaxstroke.models.octopus_net`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.batch_norm_unet import Decoder, Encoder, doubling_widths
from jaxstroke.torch_twin.nn.blocks import ConvNormAct, LogitHead
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin


class OctopusNet(nn.Module):
    """(B, C, H, W), one modality a channel -> logits (B, K, H, W)."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int) -> None:
        super().__init__()
        widths = doubling_widths(width, 5)
        self.arms = sum(groups)
        for number in range(1, self.arms + 1):
            self.add_module(f"encoder{number}", Encoder(1, widths))
        for number, features in enumerate(widths, start=1):
            self.add_module(f"fuse{number}", ConvNormAct(self.arms * features, 2 * features, 1))
        self.decoder = Decoder([2 * features for features in widths])
        self.head = LogitHead(2 * width, targets)

    def forward(self, images: Tensor) -> Outputs:
        arms = [
            self.get_submodule(f"encoder{number + 1}")(images[:, number : number + 1]) for number in range(self.arms)
        ]
        fused = [
            self.get_submodule(f"fuse{number}")(torch.cat(maps, dim=1))
            for number, maps in enumerate(zip(*arms, strict=True), start=1)
        ]
        return Outputs(self.head(self.decoder(fused)))


TWIN = Twin("octopus_net", OctopusNet, Small(64, {"width": 2}))
