"""Convolution, normalisation and activation, as `jaxstroke.models.nn.blocks`.

Submodules bear the names of their Linen counterparts, level by level, so that weights travel by rule.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def widened(x: Tensor) -> Tensor:
    """In float32, where autocast has narrowed it; float64 stays float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Conv(nn.Module):
    """A convolution with bias and symmetric padding: (N, C, H, W) -> (N, features, H', W')."""

    def __init__(self, channels: int, features: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, features, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class BiasedBatchNorm(nn.Module):
    """Batch normalisation of (N, C, ...) with Flax's running statistics.

        running = momentum * running + (1 - momentum) * batch

    PyTorch's own layer has 1 - momentum for momentum, and stores the unbiased variance, n / (n - 1) times the one that
    it normalises with.  Flax stores the biased one; so does this layer.  In evaluation the two are the same function.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float, epsilon: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.epsilon)
        with torch.no_grad():
            axes = [axis for axis in range(x.ndim) if axis != 1]
            variance, mean = torch.var_mean(widened(x), axes, correction=0)
            self.running_mean.lerp_(mean, 1 - self.momentum)
            self.running_var.lerp_(variance, 1 - self.momentum)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.epsilon)


class BatchNorm(nn.Module):
    def __init__(self, channels: int, momentum: float = 0.9, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.norm = BiasedBatchNorm(channels, momentum, epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class ConvNormAct(nn.Module):
    """conv k x k - BatchNorm - ReLU."""

    def __init__(
        self, channels: int, features: int, kernel: int = 3, *, momentum: float = 0.9, epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        self.conv = Conv(channels, features, kernel)
        self.norm = BatchNorm(features, momentum, epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class DoubleConv(nn.Module):
    """Twice conv3x3 - BatchNorm - ReLU."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.block1 = ConvNormAct(channels, features)
        self.block2 = ConvNormAct(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.block1(x))


class LogitHead(nn.Module):
    """The last convolution, in float32 also under autocast."""

    def __init__(self, channels: int, targets: int) -> None:
        super().__init__()
        self.conv = Conv(channels, targets, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.conv(widened(x))
