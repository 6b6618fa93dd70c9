"""What the cross-domain and the cascade network share: the block, the encoder, and decoder levels with gates.

Both come from one group and have one shape: two blocks at each decoder level, one before the skip connection and one
after it, with an additive gate on the skip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError
from jaxstroke.models.nn.attention import AdditiveGate, Gated
from jaxstroke.models.nn.blocks import Conv, ConvNormAct
from jaxstroke.models.nn.dropout import Dropout


@dataclasses.dataclass(frozen=True)
class Style:
    """What every block of a network has in common."""

    residual: bool
    dropout: float = 0.0
    initializer: str = "torch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: Any = None

    def gate(self, features: int, name: str) -> AdditiveGate:
        """The additive gate of full width, without normalisation."""
        return AdditiveGate(features, initializer=self.initializer, dtype=self.dtype, name=name)


class Block(nn.Module):
    """Twice conv3x3 - BatchNorm - ReLU; in residual style each convolution's input is added to its result.

    Where a residual changes width, it passes a 1 x 1 convolution with bias.  Dropout comes last.
    """

    features: int
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        style = self.style
        for step in ("1", "2"):
            convolved = ConvNormAct(
                self.features,
                initializer=style.initializer,
                momentum=style.momentum,
                epsilon=style.epsilon,
                axis_name=style.axis_name,
                dtype=style.dtype,
                name=f"block{step}",
            )(x, train=train)
            if style.residual and x.shape[-1] != self.features:
                x = Conv(self.features, 1, initializer=style.initializer, dtype=style.dtype, name="shortcut")(x)
            x = convolved + x.astype(convolved.dtype) if style.residual else convolved
        return Dropout(style.dropout, style.axis_name, name="dropout")(x, train=train)


class Encoder(nn.Module):
    """A block for each width, with 2 x 2 pooling between them: a map for each level, finest first.

    The last block, the bottleneck, is pooled only where `pool_last` says so.
    """

    widths: tuple[int, ...]
    style: Style
    pool: Callable[[jax.Array], jax.Array]
    pool_last: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        levels = []
        for level, width in enumerate(self.widths, start=1):
            last = level == len(self.widths)
            if level > 1 and (self.pool_last or not last):
                x = self.pool(x)
            x = Block(width, self.style, name=f"level{level}")(x, train=train)
            levels.append(x)
        return levels


class DecoderLevel(nn.Module):
    """Upsample by 2 - block - gate the skip - concatenate [skip, map] - block: (B, h, w, C) -> (B, 2h, 2w, features).

    Returns the map, and what the gate gave (None without a gate).
    """

    features: int
    style: Style
    upsample: Callable[[jax.Array], jax.Array]
    gated: bool

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array, *, train: bool) -> tuple[jax.Array, Gated | None]:
        x = Block(self.features, self.style, name="before")(self.upsample(x), train=train)
        gate = self.style.gate(self.features, "gate")(x, skip, train=train) if self.gated else None
        skip = skip if gate is None else gate.features
        x = Block(self.features, self.style, name="after")(jnp.concatenate([skip, x], axis=-1), train=train)
        return x, gate


def check_divisible(images: jax.Array, divisor: int, network: str) -> None:
    """Says plainly that height and width (B, H, W, C) cannot be halved often enough."""
    height, width = images.shape[-3:-1]
    if height % divisor or width % divisor:
        raise UserError(
            f"data.size: {network} with these options takes heights and widths that {divisor} divides, "
            f"and the images are {height} x {width}"
        )
