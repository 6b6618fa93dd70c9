"""MSNet, as `jaxstroke.models.msnet`."""

from __future__ import annotations

import functools
import operator

from torch import Tensor, nn

from jaxstroke.torch_twin.nn.batch_norm_unet import Encoder, doubling_widths
from jaxstroke.torch_twin.nn.blocks import ConvNormAct, LogitHead
from jaxstroke.torch_twin.nn.resize import resize_bilinear
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LEVELS = 5


class MSNet(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W)."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int) -> None:
        super().__init__()
        widths = doubling_widths(width, LEVELS)
        self.encoder = Encoder(sum(groups), widths)
        for level in range(2, LEVELS + 1):
            self.add_module(f"unify{level}", ConvNormAct(widths[level - 1], width))
        for span in range(1, LEVELS):
            for level in range(1, LEVELS + 1 - span):
                self.add_module(f"subtract{level}_{level + span}", ConvNormAct(width, width))
        self.bottom = ConvNormAct(widths[-1], width)
        for level in range(1, LEVELS):
            self.add_module(f"enhance{level}", ConvNormAct(width, width))
            self.add_module(f"decoder{level}", ConvNormAct(width, width))
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor) -> Outputs:
        levels = self.encoder(images)
        column = [levels[0], *(self.get_submodule(f"unify{n}")(x) for n, x in enumerate(levels[1:], start=2))]
        differences: list[list[Tensor]] = [[] for _ in column]
        for span in range(1, LEVELS):
            column = [
                self.get_submodule(f"subtract{level}_{level + span}")(_distance(fine, coarse))
                for level, (fine, coarse) in enumerate(zip(column[:-1], column[1:], strict=True), start=1)
            ]
            for level, difference in enumerate(column):
                differences[level].append(difference)
        x = self.bottom(levels[-1])
        for level in range(LEVELS - 1, 0, -1):
            enhanced = self.get_submodule(f"enhance{level}")(functools.reduce(operator.add, differences[level - 1]))
            x = enhanced + resize_bilinear(x, enhanced.shape[-2:])
            x = self.get_submodule(f"decoder{level}")(x)
        return Outputs(self.head(x))


def _distance(fine: Tensor, coarse: Tensor) -> Tensor:
    return (fine - resize_bilinear(coarse, fine.shape[-2:])).abs()


TWIN = Twin("msnet", MSNet, Small(64, {"width": 4}))
