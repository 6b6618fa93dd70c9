"""ConvLSTM-U-Net, the recurrent peer of DME-Net: a U-Net whose deepest map goes through a ConvLSTM from slice to slice.

DME-Net's paper says "ConvLSTM-U-Net, which adds recurrent units" and no more.  Ours: where the unit stands and its
width.  Encoder and decoder are those of DME-Net, conv3x3-GroupNorm(8)-ReLU twice a level, 32 to 512 channels; the
deepest map z_t (1/16) feeds a ConvLSTM with 256 hidden channels and 3 x 3 kernels, and a 1 x 1 convolution of its
output h_t takes the place of z_t.  Group normalisation looks at one slice only, so that a stream of slices gives what
the whole clip gives.

Any height and width of 16 pixels or more will do.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from jaxstroke.models.nn.batch_norm_unet import doubling_widths, require_pixels
from jaxstroke.models.nn.blocks import Conv, LogitHead
from jaxstroke.models.nn.group_norm_unet import Decoder, Encoder
from jaxstroke.models.nn.recurrent import ConvLSTMCell, LSTMState, walk
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network, Published

LEVELS = 5
STRIDE = 2 ** (LEVELS - 1)  # of the deepest map


class ConvLSTMUNet(nn.Module):
    """images (B, T, H, W, C), valid (B, T) -> Outputs with logits (B, T, H, W, targets).

    For streaming, `initial_memory` and `step` do the same one slice at a time.

    Attributes:
      width: channels of the finest level; the ConvLSTM has 8 times as many.
    """

    targets: int = 1
    width: int = 32
    dtype: Any = None

    def setup(self) -> None:
        widths = doubling_widths(self.width, LEVELS)
        self.encoder = Encoder(widths, self.dtype)
        self.conv_lstm = ConvLSTMCell(widths[-1] // 2, self.dtype)
        self.fuse = Conv(widths[-1], 1, dtype=self.dtype)
        self.decoder = Decoder(self.dtype)
        self.head = LogitHead(self.targets)

    def __call__(self, images: jax.Array, valid: jax.Array, *, train: bool = False) -> Outputs:
        del train  # group normalisation, and no dropout: there is no difference
        memory = self.initial_memory(images.shape[0], *images.shape[-3:-1])
        return self.scan(memory, images, valid)[1]

    def initial_memory(self, batch: int, height: int, width: int) -> LSTMState:
        """The memory of `batch` subjects before their first slice, for slices of this height and width."""
        return self.conv_lstm.initial(batch, height // STRIDE, width // STRIDE)

    def step(self, memory: LSTMState, images: jax.Array, valid: jax.Array) -> tuple[LSTMState, Outputs]:
        """One slice a subject: images (B, H, W, C), valid (B,) -> the memory after it, logits (B, H, W, targets)."""
        *skips, deepest = self._encode(images)
        memory, hidden = self.conv_lstm(memory, (deepest, valid))
        return memory, self._decode(hidden, skips)

    def scan(self, memory: LSTMState, images: jax.Array, valid: jax.Array) -> tuple[LSTMState, Outputs]:
        """Many slices, first to last: images (B, T, H, W, C), valid (B, T) -> memory, logits (B, T, H, W, targets)."""
        batch, slices = images.shape[:2]
        # Encoder and decoder remember nothing, so they take all slices at once; only the memory walks.
        *skips, deepest = self._encode(images.reshape(batch * slices, *images.shape[2:]))
        maps = deepest.reshape(batch, slices, *deepest.shape[1:])
        memory, hidden = walk(self.conv_lstm, memory, maps, valid)
        outputs = self._decode(hidden.reshape(batch * slices, *hidden.shape[2:]), skips)
        return memory, jax.tree.map(lambda x: x.reshape(batch, slices, *x.shape[1:]), outputs)

    def _encode(self, images: jax.Array) -> list[jax.Array]:
        require_pixels(images, STRIDE)
        return self.encoder(images)

    def _decode(self, hidden: jax.Array, skips: list[jax.Array]) -> Outputs:
        return Outputs(self.head(self.decoder(self.fuse(hidden), skips)))


NETWORK = Network("conv_lstm_unet", ConvLSTMUNet, "clip")

NOTE = "DME-Net's paper prints neither parameters nor operations for its peers. Operations here are those of one slice."
CATALOGUE = (Entry("conv_lstm_unet", "conv_lstm_unet", 160, (4, 1), published=(Published("DME-Net", note=NOTE),)),)
