"""DME-Net, as `jaxstroke.models.dme_net`."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import Conv, LogitHead
from jaxstroke.torch_twin.nn.group_norm_unet import Decoder, Encoder
from jaxstroke.torch_twin.nn.memory import MemoryGate, SpatialMemory, SpatialState, TemporalMemory, TemporalState
from jaxstroke.torch_twin.outputs import Outputs
from jaxstroke.torch_twin.registry import Small, Twin

LEVELS = 5
STRIDE = 2 ** (LEVELS - 1)


class Memory(NamedTuple):
    """What is carried from slice to slice; None for a unit that is left out."""

    temporal: TemporalState | None
    spatial: SpatialState | None


class DMENet(nn.Module):
    """images (B, T, C, H, W), valid (B, T) -> logits (B, T, K, H, W); `step` does the same one slice at a time."""

    def __init__(
        self,
        *,
        groups: tuple[int, ...],
        targets: int,
        width: int,
        memory_slices: int,
        prototypes: int,
        temporal: bool,
        spatial: bool,
    ) -> None:
        super().__init__()
        widths = [width // 2 * 2**level for level in range(LEVELS)]
        deepest = widths[-1]
        self.split = sum(groups[:-1])
        self.temporal_encoder = Encoder(self.split, widths)
        self.structural_encoder = Encoder(groups[-1], widths)
        self.temporal_memory = (
            TemporalMemory(deepest, targets, memory_slices, deepest // 4, deepest) if temporal else None
        )
        self.spatial_memory = SpatialMemory(deepest, prototypes, deepest) if spatial else None
        self.memory_gate = MemoryGate(2 * deepest, deepest) if temporal and spatial else None
        self.fuse = Conv(deepest, 2 * deepest, 1) if temporal or spatial else None
        self.decoder = Decoder([2 * width for width in widths])
        self.head = LogitHead(width, targets)

    def forward(self, images: Tensor, valid: Tensor) -> Outputs:
        memory = self.initial_memory(images.shape[0], *images.shape[-2:])
        logits = []
        for slices, there in zip(images.unbind(1), valid.unbind(1), strict=True):
            memory, outputs = self.step(memory, slices, there)
            logits.append(outputs.logits)
        return Outputs(torch.stack(logits, dim=1))

    def initial_memory(self, batch: int, height: int, width: int) -> Memory:
        """The memory of `batch` subjects before their first slice."""
        grid = (height // STRIDE, width // STRIDE)
        return Memory(
            temporal=None if self.temporal_memory is None else self.temporal_memory.initial(batch, *grid),
            spatial=None if self.spatial_memory is None else self.spatial_memory.initial(batch),
        )

    def step(self, memory: Memory, images: Tensor, valid: Tensor) -> tuple[Memory, Outputs]:
        """images (B, C, H, W), valid (B,) -> the memory after the slice, logits (B, K, H, W)."""
        *fine_temporal, z_temporal = self.temporal_encoder(images[:, : self.split])
        *fine_structural, z_structural = self.structural_encoder(images[:, self.split :])
        skips = [torch.cat(pair, dim=1) for pair in zip(fine_temporal, fine_structural, strict=True)]
        z = torch.cat([z_temporal, z_structural], dim=1)

        # A unit's state and what it says are None exactly where the unit is left out.
        temporal: Any = memory.temporal
        spatial: Any = memory.spatial
        key: Any = None
        from_time: Any = None
        from_space: Any = None
        if self.temporal_memory is not None:
            key, from_time = self.temporal_memory.read(temporal, z_temporal)
        if self.spatial_memory is not None:
            from_space = self.spatial_memory.read(spatial, z_structural)
        remembered: Any = from_space if from_time is None else from_time
        if self.memory_gate is not None:
            remembered = self.memory_gate(z, from_time, from_space)
        if self.fuse is not None:
            z = z + self.fuse(remembered).to(z.dtype)
        logits = self.head(self.decoder(z, skips))

        if self.temporal_memory is not None:
            mask = F.avg_pool2d(torch.sigmoid(logits.detach()), STRIDE)  # what is remembered is a prediction
            temporal = self.temporal_memory.write(
                temporal, z_temporal, key=key, hidden=cast(Tensor, from_time), mask=mask, valid=valid
            )
        if self.spatial_memory is not None:
            spatial = self.spatial_memory.write(spatial, z_structural, valid=valid)
        return Memory(temporal, spatial), Outputs(logits)


TWIN = Twin("dme_net", DMENet, Small(32, {"width": 8, "memory_slices": 2, "prototypes": 4}))
