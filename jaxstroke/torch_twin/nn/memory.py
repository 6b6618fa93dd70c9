"""The two memories of DME-Net and the gate between them, as `jaxstroke.models.nn.memory`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import Conv, widened


class TemporalState(NamedTuple):
    """The last K slices of each subject, oldest first, and the recurrent state.

    keys (B, K, key width, H, W), values (B, K, value width, H, W), stored (B, K) bool, hidden (B, value width, H, W)
    """

    keys: Tensor
    values: Tensor
    stored: Tensor
    hidden: Tensor


class SpatialState(NamedTuple):
    """The prototypes of each subject: slots (B, P, width)."""

    slots: Tensor


def choose(valid: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` for the examples that `valid` (B,) marks, `old` for the others."""
    valid = valid.reshape(-1, *(1,) * (new.ndim - 1))
    # onnxruntime cannot choose between flags.
    return (valid & new) | (~valid & old) if new.dtype == torch.bool else torch.where(valid, new, old)


def push(queue: Tensor, item: Tensor) -> Tensor:
    """Drops the oldest of a queue (B, K, ...) and appends the item (B, ...)."""
    return torch.cat([queue[:, 1:], item[:, None].to(queue.dtype)], dim=1)


def distance_attention(queries: Tensor, keys: Tensor, stored: Tensor) -> Tensor:
    """Softmax over memory of (2 m.q - |m|^2) / sqrt(C): (B, Q, C), (B, M, C), (B, M) -> (B, Q, M); 0 if it is empty."""
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = widened(queries), widened(keys)
        affinity = (2.0 * queries @ keys.transpose(1, 2) - keys.square().sum(-1)[:, None]) / math.sqrt(keys.shape[-1])
    there = stored[:, None]
    affinity = affinity.masked_fill(~there, torch.finfo(torch.float32).min)
    return torch.softmax(affinity, dim=-1).masked_fill(~there, 0.0)


class ConvGRU(nn.Module):
    """u, r = sigmoid(conv[x, h]),  c = tanh(conv[x, r h]),  h' = (1 - u) h + u c."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.gates = Conv(channels + features, 2 * features)
        self.candidate = Conv(channels + features, features)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        update, reset = torch.sigmoid(widened(self.gates(torch.cat([x, hidden], dim=1)))).chunk(2, dim=1)
        candidate = torch.tanh(widened(self.candidate(torch.cat([x, reset * hidden], dim=1))))
        return (1.0 - update) * hidden + update * candidate


class TemporalMemory(nn.Module):
    """A queue of past slices, read by similarity, and a recurrent unit behind it."""

    def __init__(self, channels: int, targets: int, slices: int, key_width: int, value_width: int) -> None:
        super().__init__()
        self.slices, self.key_width, self.value_width = slices, key_width, value_width
        self.key = Conv(channels, key_width, 1)
        self.value = Conv(channels + targets, value_width)
        self.recurrent = ConvGRU(value_width + channels, value_width)

    def initial(self, batch: int, height: int, width: int) -> TemporalState:
        weight = self.key.conv.weight
        return TemporalState(
            keys=weight.new_zeros(batch, self.slices, self.key_width, height, width),
            values=weight.new_zeros(batch, self.slices, self.value_width, height, width),
            stored=torch.zeros(batch, self.slices, dtype=torch.bool, device=weight.device),
            hidden=weight.new_zeros(batch, self.value_width, height, width),
        )

    def read(self, state: TemporalState, z: Tensor) -> tuple[Tensor, Tensor]:
        """The slice's key (B, key width, H, W) and what is remembered about it (B, value width, H, W)."""
        key = self.key(z)
        recalled = self.recall(state, key)
        return key, self.recurrent(torch.cat([recalled, z], dim=1), state.hidden)

    def recall(self, state: TemporalState, key: Tensor) -> Tensor:
        height, width = key.shape[-2:]
        weights = distance_attention(
            key.flatten(2).transpose(1, 2),
            _entries(state.keys),
            state.stored[:, :, None].expand(-1, -1, height * width).flatten(1),
        )
        return (weights @ _entries(state.values)).transpose(1, 2).unflatten(2, (height, width))

    def write(
        self, state: TemporalState, z: Tensor, *, key: Tensor, hidden: Tensor, mask: Tensor, valid: Tensor
    ) -> TemporalState:
        value = self.value(torch.cat([z, mask], dim=1))
        new = TemporalState(
            keys=push(state.keys, key),
            values=push(state.values, value),
            stored=push(state.stored, torch.ones_like(valid)),
            hidden=hidden,
        )
        return TemporalState(*(choose(valid, one, other) for one, other in zip(new, state, strict=True)))


class SpatialMemory(nn.Module):
    """Learned prototypes of anatomy, copied for each subject and slowly adapted to it."""

    def __init__(self, channels: int, prototypes: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.prototype = nn.Parameter(torch.randn(prototypes, width))
        self.query = Conv(channels, width, 1)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.content = Conv(channels, width, 1)
        self.gate = nn.Linear(2 * width, width)

    def initial(self, batch: int) -> SpatialState:
        return SpatialState(self.prototype.expand(batch, -1, -1))

    def read(self, state: SpatialState, z: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H, W), float32."""
        attention = _attention(_tokens(self.query(z)), self.key(state.slots))
        found = attention @ widened(self.value(state.slots))
        return found.transpose(1, 2).unflatten(2, z.shape[-2:])

    def write(self, state: SpatialState, z: Tensor, *, valid: Tensor) -> SpatialState:
        tokens = widened(_tokens(self.content(z)))
        shares = _attention(tokens, state.slots)
        total = shares.transpose(1, 2) @ tokens
        content = total / (shares.sum(1)[..., None] + 1e-6)
        gate = torch.sigmoid(widened(self.gate(torch.cat([state.slots, content], dim=-1))))
        return SpatialState(choose(valid, state.slots + gate * (content - state.slots), state.slots))


class MemoryGate(nn.Module):
    """g = sigmoid(conv3x3[z, r_t, r_s]); g r_t + (1 - g) r_s."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.balance = Conv(channels + 2 * width, width)

    def forward(self, z: Tensor, temporal: Tensor, spatial: Tensor) -> Tensor:
        gate = torch.sigmoid(widened(self.balance(torch.cat([z, temporal, spatial], dim=1))))
        return gate * temporal + (1.0 - gate) * spatial


def _entries(queue: Tensor) -> Tensor:
    """(B, K, C, H, W) -> (B, K H W, C)."""
    return queue.permute(0, 1, 3, 4, 2).flatten(1, 3)


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def _attention(queries: Tensor, keys: Tensor) -> Tensor:
    """softmax_keys(q.k / sqrt(C)), float32."""
    products = widened(queries @ keys.transpose(1, 2))
    return torch.softmax(products / math.sqrt(queries.shape[-1]), dim=-1)
