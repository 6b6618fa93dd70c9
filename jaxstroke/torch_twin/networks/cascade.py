"""The cascade cross-attentional network, as `jaxstroke.models.cascade`."""

from __future__ import annotations

from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import LogitHead, widened
from jaxstroke.torch_twin.nn.gated_unet import DecoderLevel, Encoder, Style
from jaxstroke.torch_twin.nn.resize import max_pool, resize_bilinear
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LEVELS = 6
RANGE_FLOOR = 1e-6


class CascadeNet(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W), with side logits and the synthetic map where the options ask for them."""

    def __init__(
        self, *, groups: tuple[int, ...], targets: int, refinement: bool, attention: bool, residual: bool, width: int
    ) -> None:
        super().__init__()
        style = Style(residual=residual)
        widths = [width * 2**level for level in range(LEVELS)]
        self.refinement = refinement
        self.encoder = Encoder(sum(groups), widths, style, max_pool)
        for level in range(1, LEVELS):
            decoder = DecoderLevel(widths[level], widths[level - 1], style, upsample_bilinear, gated=attention)
            self.add_module(f"decoder{level}", decoder)
        self.head = LogitHead(width, targets)
        for level in range(2, LEVELS + 1) if refinement else ():
            self.add_module(f"side_head{level}", LogitHead(widths[level - 1], targets))

    def forward(self, images: Tensor) -> Outputs:
        *skips, x = self.encoder(images)
        coarse, gate = [], None
        for level in range(LEVELS - 1, 0, -1):
            coarse.append(x)
            x, gate = self.get_submodule(f"decoder{level}")(x, skips[level - 1])
        logits = self.head(x)
        features = {} if gate is None else {"synthetic": synthetic_map(gate.similarity)}
        if not self.refinement:
            return Outputs(logits, features=features)
        sides = [
            resize_bilinear(self.get_submodule(f"side_head{LEVELS - index}")(map), x.shape[-2:], align_corners=False)
            for index, map in enumerate(coarse)
        ]
        return Outputs(logits, (*sides, logits), features)


def upsample_bilinear(x: Tensor) -> Tensor:
    return resize_bilinear(x, (2 * x.shape[-2], 2 * x.shape[-1]), align_corners=False)


def synthetic_map(similarity: Tensor) -> Tensor:
    """The finest gate's positive similarities, averaged over channels, brought to 0..1; no gradient passes."""
    mean = widened(similarity.detach()).mean(dim=1, keepdim=True)
    low, high = mean.amin(dim=(-2, -1), keepdim=True), mean.amax(dim=(-2, -1), keepdim=True)
    return (mean - low) / (high - low).clamp(min=RANGE_FLOOR)


TWIN = Twin("cascade", CascadeNet, Small(128, {"width": 2}))
