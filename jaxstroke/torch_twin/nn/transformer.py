"""Parts of vision transformers on tokens (..., N, C), as `jaxstroke.models.nn.transformer`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import widened


class LayerNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Linear(nn.Module):
    def __init__(self, channels: int, features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.dense = nn.Linear(channels, features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d) + bias) v over all tokens, in `heads` parts; the softmax is in float32."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.qkv = Linear(channels, 3 * channels)
        self.project = Linear(channels, channels)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (..., N, 3, heads, d)
        query, key, value = (parts[..., part, :, :].transpose(-3, -2) for part in range(3))
        scores = widened((query * self.scale) @ key.transpose(-1, -2))
        scores = scores if bias is None else scores + bias
        mixed = torch.softmax(scores, dim=-1).to(value.dtype) @ value  # (..., heads, N, d)
        return self.project(mixed.transpose(-3, -2).flatten(-2))


class Perceptron(nn.Module):
    """Linear - GELU (exact) - linear."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.widen = Linear(channels, hidden)
        self.narrow = Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(F.gelu(self.widen(x)))


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.norm2 = LayerNorm(channels)
        self.perceptron = Perceptron(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.perceptron(self.norm2(x))
