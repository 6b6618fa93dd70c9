"""What the cross-domain and the cascade network share, as `jaxstroke.models.nn.gated_unet`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.attention import AdditiveGate, Gated
from jaxstroke.torch_twin.nn.blocks import Conv, ConvNormAct

Resize = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Style:
    """What every block of a network has in common."""

    residual: bool
    dropout: float = 0.0
    momentum: float = 0.9
    epsilon: float = 1e-5


class Block(nn.Module):
    """Twice conv3x3 - BatchNorm - ReLU; in residual style each convolution's input is added to its result."""

    def __init__(self, channels: int, features: int, style: Style) -> None:
        super().__init__()
        constants: dict[str, Any] = {"momentum": style.momentum, "epsilon": style.epsilon}
        self.residual = style.residual
        self.block1 = ConvNormAct(channels, features, **constants)
        self.block2 = ConvNormAct(features, features, **constants)
        self.shortcut = Conv(channels, features, 1) if style.residual and channels != features else nn.Identity()
        self.dropout = nn.Dropout(style.dropout)

    def forward(self, x: Tensor) -> Tensor:
        if not self.residual:
            return self.dropout(self.block2(self.block1(x)))
        x = self.block1(x) + self.shortcut(x)
        return self.dropout(self.block2(x) + x)


class Encoder(nn.Module):
    """A block for each width, pooling between them; the last is pooled only where `pool_last` says so."""

    def __init__(
        self, channels: int, widths: Sequence[int], style: Style, pool: Resize, pool_last: bool = True
    ) -> None:
        super().__init__()
        self.levels, self.pool, self.pool_last = len(widths), pool, pool_last
        for level, (before, width) in enumerate(zip((channels, *widths[:-1]), widths, strict=True), start=1):
            self.add_module(f"level{level}", Block(before, width, style))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for level in range(1, self.levels + 1):
            if level > 1 and (self.pool_last or level < self.levels):
                x = self.pool(x)
            x = self.get_submodule(f"level{level}")(x)
            maps.append(x)
        return maps


class DecoderLevel(nn.Module):
    """Upsample by 2 - block - gate the skip - [skip, map] - block; also returns what the gate gave."""

    def __init__(self, channels: int, skip_channels: int, style: Style, upsample: Resize, *, gated: bool) -> None:
        super().__init__()
        features = skip_channels
        self.upsample = upsample
        self.before = Block(channels, features, style)
        self.gate = AdditiveGate(features, features, features) if gated else None
        self.after = Block(2 * features, features, style)

    def forward(self, x: Tensor, skip: Tensor) -> tuple[Tensor, Gated | None]:
        x = self.before(self.upsample(x))
        gated = None if self.gate is None else self.gate(x, skip)
        skip = skip if gated is None else gated.features
        return self.after(torch.cat([skip, x], dim=1)), gated
