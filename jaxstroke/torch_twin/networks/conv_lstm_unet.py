"""ConvLSTM-U-Net, as `jaxstroke.models.conv_lstm_unet`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.batch_norm_unet import doubling_widths
from jaxstroke.torch_twin.nn.blocks import Conv, LogitHead
from jaxstroke.torch_twin.nn.group_norm_unet import Decoder, Encoder
from jaxstroke.torch_twin.nn.recurrent import ConvLSTMCell, LSTMState
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LEVELS = 5
STRIDE = 2 ** (LEVELS - 1)


class ConvLSTMUNet(nn.Module):
    """images (B, T, C, H, W), valid (B, T) -> logits (B, T, K, H, W); `step` does the same one slice at a time."""

    def __init__(self, *, groups: tuple[int, ...], targets: int, width: int) -> None:
        super().__init__()
        widths = doubling_widths(width, LEVELS)
        self.encoder = Encoder(sum(groups), widths)
        self.conv_lstm = ConvLSTMCell(widths[-1], widths[-1] // 2)
        self.fuse = Conv(widths[-1] // 2, widths[-1], 1)
        self.decoder = Decoder(widths)
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor, valid: Tensor) -> Outputs:
        memory = self.initial_memory(images.shape[0], *images.shape[-2:])
        logits = []
        for slices, there in zip(images.unbind(1), valid.unbind(1), strict=True):
            memory, outputs = self.step(memory, slices, there)
            logits.append(outputs.logits)
        return Outputs(torch.stack(logits, dim=1))

    def initial_memory(self, batch: int, height: int, width: int) -> LSTMState:
        return self.conv_lstm.initial(batch, height // STRIDE, width // STRIDE)

    def step(self, memory: LSTMState, images: Tensor, valid: Tensor) -> tuple[LSTMState, Outputs]:
        """images (B, C, H, W), valid (B,) -> the memory after the slice, logits (B, K, H, W)."""
        *skips, deepest = self.encoder(images)
        memory, hidden = self.conv_lstm(memory, deepest, valid)
        return memory, Outputs(self.head(self.decoder(self.fuse(hidden), skips)))


TWIN = Twin("conv_lstm_unet", ConvLSTMUNet, Small(32, {"width": 8}))
