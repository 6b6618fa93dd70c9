"""U-Net, as `jaxstroke.models.unet`."""

from __future__ import annotations

from torch import Tensor, nn

from jaxstroke.torch_twin.nn.batch_norm_unet import Decoder, Encoder, doubling_widths
from jaxstroke.torch_twin.nn.blocks import LogitHead
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin


class UNet(nn.Module):
    """(B, C, H, W) -> logits (B, K, H, W)."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int) -> None:
        super().__init__()
        widths = doubling_widths(width, 5)
        self.encoder = Encoder(sum(groups), widths)
        self.decoder = Decoder(widths)
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor) -> Outputs:
        return Outputs(self.head(self.decoder(self.encoder(images))))


TWIN = Twin("unet", UNet, Small(64, {"width": 4}))
