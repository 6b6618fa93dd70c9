"""DME-Net: a U-Net that walks through a subject's slices with a temporal and a spatial memory (Bianchi et al.).

"Dual-Memory Temporal-Spatial Encoder for Acute Stroke Evolution Segmentation".  The paper describes its memories in
words and gives no equation, width or parameter count for them.  What its text says [text], and what we chose [ours]:

- [text] "Temporal features from DWI and PWI were given to the temporal memory unit, and structural cues were sent to
  the spatial memory unit."  [ours] So there are two encoders of half width (16 to 256), one a stream: the channel
  groups but the last feed the temporal one, the last group the structural one; z_t and z_s are their deepest maps,
  and the skips and z = [z_t, z_s] are concatenations (32 to 512).  On the public ISLES 2018 set the temporal stream
  takes the perfusion maps and the structural stream CT; on ISLES 2022 they take DWI, and ADC.
- [text] "Inference was done slice by slice, and memory states from the temporal and spatial units were used to refine
  the final prediction."  [ours] The walk is a scan over the slices of a clip that carries the two states; a padded
  slice leaves them as they are; normalisation is by groups of channels, since statistics of a batch inside a walk
  would depend on how it is cut.
- [text] The temporal memory "captures evolving intensity and shape patterns" and "aggregates" them.  [ours] A queue of
  the last six slices; a stored value is a convolution of [z_t, predicted mask at 1/16], intensity and shape.  Only z_t
  of the features is written, not all of z, so that what this memory holds comes from the temporal stream as the text
  has it.  It is read by the distance of keys, and a convolutional GRU after it gives r_t.
- [text] The spatial memory "preserves stable anatomical information across slices".  [ours] 64 learned prototypes,
  copied for each subject, read by attention (r_s) and rewritten slowly.
- [text] "A simple gate combined the outputs of the two units", balancing them "based on local lesion appearance".
  [ours] g = sigmoid(conv3x3[z, r_t, r_s]), z + conv1x1(g r_t + (1 - g) r_s).
- [text] "two simplified versions - one without the temporal memory unit and one without the spatial memory unit":
  `temporal=False`, `spatial=False`.  [ours] The gate goes with the unit; both streams stay.

What does not fit together in the paper: it reports 228 subjects of ISLES 2018 with DWI and ADC, while the public set
has 94 training and 62 test cases with CT and CT-perfusion maps, and no diffusion images among the inputs; 3,263 slices
are 14.3 a subject, which slices of 1 mm ("resampled to 1 x 1 x 1 mm3") could not be.  Its Dice of 0.893 is therefore a
claim on data that are not public.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError
from jaxstroke.models.nn import replay
from jaxstroke.models.nn.blocks import Conv, LogitHead
from jaxstroke.models.nn.group_norm_unet import Decoder, Encoder
from jaxstroke.models.nn.memory import (
    MemoryGate,
    SpatialMemory,
    SpatialState,
    TemporalMemory,
    TemporalReading,
    TemporalState,
)
from jaxstroke.models.outputs import Outputs
from jaxstroke.models.registry import Entry, Network

LEVELS = 5
STRIDE = 2 ** (LEVELS - 1)  # of the deepest map


@flax.struct.dataclass
class Memory:
    """What is carried from slice to slice; None for a unit that is left out."""

    temporal: TemporalState | None
    spatial: SpatialState | None


@flax.struct.dataclass
class Features:
    """What the encoders say of a slice, before any memory: skips finest first, and each stream's deepest map."""

    skips: tuple[jax.Array, ...]
    temporal: jax.Array
    structural: jax.Array


class DMENet(nn.Module):
    """images (B, T, H, W, C), valid (B, T) -> Outputs with logits (B, T, H, W, targets).

    For streaming, `initial_memory` and `step` do the same one slice at a time:

        memory = network.apply(variables, batch, height, width, method="initial_memory")
        memory, outputs = network.apply(variables, memory, images[:, t], valid[:, t], method="step")

    `gate`, `temporal_attention` and `spatial_attention` are sown under "intermediates", over a clip with T in front.

    Attributes:
      groups: channels in each modality group; the last group is the structural stream, the others the temporal one.
      targets: targets.
      width: channels of the finest skip (both streams together); all other widths go in proportion to it.
      memory_slices: how many slices the temporal memory holds.
      prototypes: slots of the spatial memory.
      temporal: whether there is a temporal memory.
      spatial: whether there is a spatial memory.
      remat: compute activations again in the backward pass instead of keeping them.
      dtype: of the arithmetic; states, attention weights and logits are float32 always.
    """

    groups: tuple[int, ...]
    targets: int = 1
    width: int = 32
    memory_slices: int = 6
    prototypes: int = 64
    temporal: bool = True
    spatial: bool = True
    remat: bool = False
    dtype: str | None = None

    def setup(self) -> None:
        if len(self.groups) < 2:
            raise UserError(
                f"data.groups: dme_net takes two groups of images or more, the last one for the spatial memory; "
                f"there is {len(self.groups)}"
            )
        if self.width < 2 or self.width % 2:
            raise UserError(f"model.width={self.width}: dme_net has two streams of half this width; give an even one")
        stream_widths = [self.width // 2 * 2**level for level in range(LEVELS)]
        deepest = stream_widths[-1]  # 256 at full size, as are the memories' values and prototypes
        self.temporal_encoder = Encoder(stream_widths, self.dtype)
        self.structural_encoder = Encoder(stream_widths, self.dtype)
        if self.temporal:
            self.temporal_memory = TemporalMemory(self.memory_slices, deepest // 4, deepest, self.dtype)
        if self.spatial:
            self.spatial_memory = SpatialMemory(self.prototypes, deepest, self.dtype)
        if self.temporal and self.spatial:
            self.memory_gate = MemoryGate(self.dtype)
        if self.temporal or self.spatial:
            self.fuse = Conv(2 * deepest, 1, dtype=self.dtype)
        self.decoder = Decoder(self.dtype)
        self.head = LogitHead(self.targets)

    def __call__(self, images: jax.Array, valid: jax.Array, *, train: bool = False) -> Outputs:
        """The same answer in training and in use, except that training decodes all slices once more, side by side.

        What a slice writes into the temporal memory is a prediction without gradient, so the walk need not be
        differentiated through the decoder; the answer that the loss sees is decoded after the walk, which a compiler
        makes far better code of than of a decoder inside a loop.  Its convolutions were computed in the walk already.
        """
        memory = self.initial_memory(images.shape[0], *images.shape[-3:-1])
        if not train:
            return self.scan(memory, images, valid)[1]
        features = self._encode_clip(images)
        _, (z, answers) = self._walk(DMENet._remember, memory, features, valid)

        def decode(z: jax.Array, skips: tuple[jax.Array, ...], answers: list[jax.Array]) -> jax.Array:
            with replay.replaying(answers):
                return self._decode(z, skips)

        return Outputs(_over_clip(decode, z, features.skips, answers))

    def initial_memory(self, batch: int, height: int, width: int) -> Memory:
        """The memory of `batch` subjects before their first slice, for slices of this height and width."""
        if height % STRIDE or width % STRIDE:
            raise UserError(f"slices of {height} x {width}: dme_net takes heights and widths that {STRIDE} divides")
        return Memory(
            temporal=self.temporal_memory.initial(batch, height // STRIDE, width // STRIDE) if self.temporal else None,
            spatial=self.spatial_memory.initial(batch) if self.spatial else None,
        )

    def step(self, memory: Memory, images: jax.Array, valid: jax.Array) -> tuple[Memory, Outputs]:
        """One slice of each subject: images (B, H, W, C), valid (B,) -> memory, logits (B, H, W, targets)."""
        return self._advance(memory, self._encode(images), valid)

    def scan(self, memory: Memory, images: jax.Array, valid: jax.Array) -> tuple[Memory, Outputs]:
        """Many slices, first to last: images (B, T, H, W, C), valid (B, T) -> memory, logits (B, T, H, W, targets)."""
        return self._walk(DMENet._advance, memory, self._encode_clip(images), valid)

    def _walk(self, advance: Any, memory: Memory, features: Features, valid: jax.Array) -> tuple[Memory, Any]:
        """Goes through the slices of a clip in order; `advance` takes one and says what is kept of it."""
        if self.remat:
            advance = nn.remat(advance, prevent_cse=False)
        walk = nn.scan(
            advance,
            variable_broadcast="params",
            variable_axes={"intermediates": 0},
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        return walk(self, memory, features, valid)

    def _encode_clip(self, images: jax.Array) -> Features:
        """The encoders remember nothing, so they take all slices (B, T, H, W, C) at once."""
        encode = nn.remat(DMENet._encode) if self.remat else DMENet._encode
        return _over_clip(functools.partial(encode, self), images)

    def _encode(self, images: jax.Array) -> Features:
        """(N, H, W, C) -> the features of N slices, each on its own."""
        if images.shape[-1] != sum(self.groups):
            raise UserError(
                f"images with {images.shape[-1]} channels: data.groups {self.groups} add up to {sum(self.groups)}"
            )
        split = sum(self.groups[:-1])
        *fine_temporal, z_temporal = self.temporal_encoder(images[..., :split])
        *fine_structural, z_structural = self.structural_encoder(images[..., split:])
        pairs = zip(fine_temporal, fine_structural, strict=True)
        return Features(tuple(jnp.concatenate(pair, axis=-1) for pair in pairs), z_temporal, z_structural)

    def _advance(self, memory: Memory, features: Features, valid: jax.Array) -> tuple[Memory, Outputs]:
        """Reads both memories, predicts, and writes what was seen and predicted."""
        z, reading = self._read(memory, features)
        logits = self._decode(z, features.skips)
        return self._write(memory, features, reading, logits, valid), Outputs(logits)

    def _remember(self, memory: Memory, features: Features, valid: jax.Array) -> tuple[Memory, Any]:
        """As `_advance`, but returns z, of which the prediction can be decoded, in the place of the prediction, and
        what the decoder's convolutions answered where it was decoded here."""
        z, reading = self._read(memory, features)
        logits, answers = None, []
        if self.temporal:
            with replay.recording() as answers:
                logits = self._decode(z, features.skips)
        return self._write(memory, features, reading, logits, valid), (z, answers)

    def _read(self, memory: Memory, features: Features) -> tuple[jax.Array, TemporalReading | None]:
        """Returns z with what both memories say of the slice, and what was read from the temporal one."""
        z_t, z_s = features.temporal, features.structural
        z = jnp.concatenate([z_t, z_s], axis=-1)
        reading = self.temporal_memory.read(memory.temporal, z_t) if memory.temporal is not None else None
        from_space = self.spatial_memory.read(memory.spatial, z_s) if memory.spatial is not None else None
        remembered = self._combine(z, None if reading is None else reading.result, from_space)
        return z if remembered is None else z + self.fuse(remembered).astype(z.dtype), reading

    def _write(
        self,
        memory: Memory,
        features: Features,
        reading: TemporalReading | None,
        logits: jax.Array | None,
        valid: jax.Array,
    ) -> Memory:
        temporal, spatial = memory.temporal, memory.spatial
        if temporal is not None and reading is not None and logits is not None:
            mask = _coarse(nn.sigmoid(jax.lax.stop_gradient(logits)))
            temporal = self.temporal_memory.write(temporal, features.temporal, reading=reading, mask=mask, valid=valid)
        if spatial is not None:
            spatial = self.spatial_memory.write(spatial, features.structural, valid=valid)
        return Memory(temporal, spatial)

    def _decode(self, z: jax.Array, skips: tuple[jax.Array, ...]) -> jax.Array:
        """(N, h, w, c) and its skips, finest first -> logits (N, H, W, targets)."""
        return self.head(self.decoder(z, skips))

    def _combine(self, z: jax.Array, from_time: jax.Array | None, from_space: jax.Array | None) -> jax.Array | None:
        """The gate's mixture of what both memories say, or what the only one says."""
        if from_time is None or from_space is None:
            return from_space if from_time is None else from_time
        return self.memory_gate(z, from_time, from_space)


def _over_clip(function: Callable[..., Any], *clips: Any) -> Any:
    """Applies a function of slices (N, ...) to clips (B, T, ...), all slices side by side."""
    batch, slices = jax.tree.leaves(clips)[0].shape[:2]
    answer = function(*jax.tree.map(lambda x: x.reshape(batch * slices, *x.shape[2:]), clips))
    return jax.tree.map(lambda x: x.reshape(batch, slices, *x.shape[1:]), answer)


def _coarse(mask: jax.Array) -> jax.Array:
    """The share of lesion in each cell of the deepest map: (B, H, W, K) -> (B, H / 16, W / 16, K)."""
    batch, height, width, targets = mask.shape
    return mask.reshape(batch, height // STRIDE, STRIDE, width // STRIDE, STRIDE, targets).mean(axis=(2, 4))


NETWORK = Network("dme_net", DMENet, "clip", multiple=STRIDE)

# One slice; the paper prints neither parameters nor operations.
CATALOGUE = (
    Entry("dme_net", "dme_net", 160, (4, 1)),
    Entry("dme_net/no_temporal", "dme_net", 160, (4, 1), {"temporal": False}),
    Entry("dme_net/no_spatial", "dme_net", 160, (4, 1), {"spatial": False}),
    Entry("dme_net/no_memories", "dme_net", 160, (4, 1), {"temporal": False, "spatial": False}),
)
