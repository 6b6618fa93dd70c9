"""TransUNet, as `jaxstroke.models.trans_unet`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import Conv, ConvNormAct, DoubleConv, widened
from jaxstroke.torch_twin.nn.resize import resize_bilinear
from jaxstroke.torch_twin.nn.resnet import Bottleneck, ConvNorm, max_pool_3x3
from jaxstroke.torch_twin.nn.transformer import LayerNorm, Linear, TransformerBlock
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

RESNET50_UNITS = (3, 4, 9)


class LightEncoder(nn.Module):
    """(B, C, H, W) -> maps at 1/2, 1/4, 1/8, 1/16 of w, 2w, 4w, 8w channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.widths = [width, 2 * width, 4 * width, 8 * width]
        self.stem = ConvNorm(channels, width, 7, 2)
        for stage in (1, 2, 3):
            features = self.widths[stage]
            self.add_module(f"stage{stage}", Bottleneck(features // 2, features, features, 2))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [F.relu(self.stem(x))]
        for stage in (1, 2, 3):
            levels.append(self.get_submodule(f"stage{stage}")(levels[-1]))
        return levels


class ResNet50Encoder(nn.Module):
    """(B, C, H, W) -> maps at 1/2, 1/4, 1/8, 1/16 of w, 4w, 8w, 16w channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.widths = [width, 4 * width, 8 * width, 16 * width]
        self.stem = ConvNorm(channels, width, 7, 2, norm="group")
        before = width
        for stage, units in enumerate(RESNET50_UNITS, start=1):
            inner = width * 2 ** (stage - 1)
            for unit in range(1, units + 1):
                stride = 2 if stage > 1 and unit == 1 else 1
                self.add_module(f"stage{stage}_{unit}", Bottleneck(before, 4 * inner, inner, stride, norm="group"))
                before = 4 * inner

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.stem(x))
        levels = [x]
        x = max_pool_3x3(x)
        for stage, units in enumerate(RESNET50_UNITS, start=1):
            for unit in range(1, units + 1):
                x = self.get_submodule(f"stage{stage}_{unit}")(x)
            levels.append(x)
        return levels


class TransUNet(nn.Module):
    """(B, C, size, size) -> logits (B, K, size, size)."""

    def __init__(
        self,
        *,
        groups: tuple[int, ...],
        targets: int,
        size: int,
        backbone: str,
        width: int,
        hidden: int,
        mlp: int,
        layers: int,
        attention_heads: int,
        decoder: tuple[int, ...],
    ) -> None:
        super().__init__()
        kind = LightEncoder if backbone == "light" else ResNet50Encoder
        self.encoder = kind(sum(groups), width)
        *skip_widths, deepest = self.encoder.widths
        side = -(-size // 16)
        self.embed = Linear(deepest, hidden)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, side * side, hidden))
        self.layers = layers
        for number in range(1, layers + 1):
            self.add_module(f"layer{number}", TransformerBlock(hidden, attention_heads, mlp))
        self.norm = LayerNorm(hidden)
        first, *widths = decoder
        self.bridge = ConvNormAct(hidden, first)
        self.levels = len(widths)
        for number, (features, skip) in enumerate(zip(widths, [*skip_widths[::-1], 0], strict=True), start=1):
            self.add_module(f"decoder{number}", DoubleConv(decoder[number - 1] + skip, features))
        self.head = Conv(widths[-1], targets)

    def forward(self, images: Tensor) -> Outputs:
        *skips, x = self.encoder(images)
        x = self.bridge(self._transform(x))
        for number, skip in enumerate(reversed(skips), start=1):
            x = torch.cat([resize_bilinear(x, skip.shape[-2:]), skip], dim=1)
            x = self.get_submodule(f"decoder{number}")(x)
        x = resize_bilinear(x, images.shape[-2:])
        x = self.get_submodule(f"decoder{self.levels}")(x)
        with torch.autocast(x.device.type, enabled=False):
            return Outputs(self.head(widened(x)))

    def _transform(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.flatten(2).transpose(1, 2))
        tokens = tokens + self.position_embedding.to(tokens.dtype)
        for number in range(1, self.layers + 1):
            tokens = self.get_submodule(f"layer{number}")(tokens)
        return self.norm(tokens).transpose(1, 2).unflatten(2, x.shape[-2:])


_SMALL = {"width": 4, "hidden": 24, "mlp": 16, "layers": 2, "decoder": (16, 8, 8, 4, 4)}
TWIN = Twin("trans_unet", TransUNet, Small(64, _SMALL))
