"""U-Net++, as `jaxstroke.models.unet_plus_plus`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.batch_norm_unet import Encoder, doubling_widths
from jaxstroke.torch_twin.nn.blocks import DoubleConv, LogitHead
from jaxstroke.torch_twin.nn.resize import resize_bilinear
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LEVELS = 5


class UNetPlusPlus(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W); node X(i, j) is `node{i + 1}_{j + 1}`."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int) -> None:
        super().__init__()
        widths = doubling_widths(width, LEVELS)
        self.encoder = Encoder(sum(groups), widths)
        for column in range(1, LEVELS):
            for level in range(LEVELS - column):
                channels = column * widths[level] + widths[level + 1]
                self.add_module(f"node{level + 1}_{column + 1}", DoubleConv(channels, widths[level]))
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor) -> Outputs:
        rows = [[x] for x in self.encoder(images)]
        for column in range(1, LEVELS):
            for level in range(LEVELS - column):
                row = rows[level]
                below = resize_bilinear(rows[level + 1][column - 1], row[0].shape[-2:])
                node = self.get_submodule(f"node{level + 1}_{column + 1}")
                row.append(node(torch.cat([*row, below], dim=1)))
        return Outputs(self.head(rows[0][-1]))


TWIN = Twin("unet_plus_plus", UNetPlusPlus, Small(64, {"width": 4}))
