"""A convolutional long short-term memory, as `jaxstroke.models.nn.recurrent`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import widened


class LSTMState(NamedTuple):
    """What is carried from slice to slice, each (B, features, H, W), float32."""

    hidden: Tensor
    cell: Tensor


class ConvLSTMCell(nn.Module):
    """i, f, o, g = split(W * [x, h] + b);  c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.features = features
        self.gates = nn.Conv2d(channels + features, 4 * features, 3, padding=1)

    def forward(self, state: LSTMState, x: Tensor, valid: Tensor) -> tuple[LSTMState, Tensor]:
        gates = widened(self.gates(torch.cat([widened(x), state.hidden], dim=1)))
        write, forget, show, new = gates.chunk(4, dim=1)
        cell = torch.sigmoid(forget) * state.cell + torch.sigmoid(write) * torch.tanh(new)
        hidden = torch.sigmoid(show) * torch.tanh(cell)
        keep = valid[:, None, None, None]
        return LSTMState(torch.where(keep, hidden, state.hidden), torch.where(keep, cell, state.cell)), hidden

    def initial(self, batch: int, height: int, width: int) -> LSTMState:
        zeros = self.gates.weight.new_zeros(batch, self.features, height, width)
        return LSTMState(zeros, zeros)
