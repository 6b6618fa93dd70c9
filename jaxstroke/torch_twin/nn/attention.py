"""The additive gate, and attention between tokens, as `jaxstroke.models.nn.attention`."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import BatchNorm, Conv, widened


class Gated(NamedTuple):
    features: Tensor  # (B, C, H, W), x * attention
    similarity: Tensor  # (B, inner, H, W), relu(q(g) + k(x))


class AdditiveGate(nn.Module):
    """x * sigmoid(w(relu(q(g) + k(x)))), with q, k and w 1 x 1 convolutions, normalised where `norm` says so."""

    def __init__(self, g_channels: int, x_channels: int, inner: int, *, norm: bool = False) -> None:
        super().__init__()
        self.query = Conv(g_channels, inner, 1)
        self.key = Conv(x_channels, inner, 1)
        self.score = Conv(inner, 1, 1)
        self.query_norm = BatchNorm(inner) if norm else nn.Identity()
        self.key_norm = BatchNorm(inner) if norm else nn.Identity()
        self.score_norm = BatchNorm(1) if norm else nn.Identity()

    def forward(self, g: Tensor, x: Tensor) -> Gated:
        similarity = F.relu(self.query_norm(self.query(g)) + self.key_norm(self.key(x)))
        attention = torch.sigmoid(self.score_norm(self.score(similarity)))
        return Gated(x * attention, similarity)


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """softmax(scale * Q K^T) V, the softmax in float32: (..., N, D), (..., M, D), (..., M, V) -> (..., N, V)."""
    scores = widened(query @ key.transpose(-1, -2)) * scale
    return torch.softmax(scores, dim=-1).to(value.dtype) @ value


class NonLocalAttention(nn.Module):
    """x + softmax(q(x) k(y)^T) v(y) on tokens (B, N, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width // 8)
        self.key = nn.Linear(width, width // 8)
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + attend(self.query(x), self.key(y), self.value(y), scale=1.0)


class TransformerLayer(nn.Module):
    """x += attention(norm(x), norm(y)); x += mlp(norm(x)) on tokens (..., N, C)."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp1 = nn.Linear(width, mlp_ratio * width)
        self.mlp2 = nn.Linear(mlp_ratio * width, width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        context = self.norm1(y)
        query = self._split(self.query(self.norm1(x)))
        key, value = self._split(self.key(context)), self._split(self.value(context))
        update = attend(query, key, value, scale=self.scale)
        x = x + self.out(update.transpose(-3, -2).flatten(-2))
        return x + self.mlp2(F.gelu(self.mlp1(self.norm2(x))))

    def _split(self, x: Tensor) -> Tensor:
        """(..., N, C) -> (..., heads, N, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
