"""Batches from a cache: endless and shuffled for training, each example once and in order for everything else.

The training example of global index i is a function of the seed, i and the studies alone.  So a run resumes at any
step by starting there, and the number of threads or worker processes changes nothing.  Only the slices that an
example needs are read: memory does not grow with the data set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxstroke.data.cache.format import ARRAYS, Cache, CachedStudy
from jaxstroke.data.series import CHANNELS, as_examples, beside_mirror
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data, Experiment
from jaxstroke.process import cores

Batch = dict[str, np.ndarray]

# Words of the random streams, so that an epoch's order and an example's draws never share numbers.
_ORDER, _EXAMPLE = 0, 1
_ENDLESS = 2**62
_THREADS = 4
# Batches that are made ahead, by all threads of a process together.
_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Example:
    """`count` consecutive slices of a study, from slice `start`."""

    study: str
    start: int
    count: int

    def __str__(self) -> str:
        last = self.start + self.count - 1
        return f"{self.study} slice {self.start}" if self.count == 1 else f"{self.study} slices {self.start}-{last}"


def examples(cache: Cache, studies: Sequence[str], data: Data) -> tuple[Example, ...]:
    """Every slice once: one by one, or for clips and volumes `data.depth` at a time, a study's last ones short."""
    length = data.kind.slices(data.depth)
    return tuple(
        Example(study.study, start, min(length, study.slices - start))
        for study in (cache.study(name) for name in studies)
        for start in range(0, study.slices, length)
    )


def examples_per_epoch(cache: Cache, studies: Sequence[str], data: Data) -> int:
    return len(examples(cache, studies, data))


def steps_per_epoch(cache: Cache, studies: Sequence[str], experiment: Experiment) -> int:
    """As many as the experiment says, or as it takes to see every example, or every slice, once.

    Clips of studies with fewer slices than a clip are padded: counting slices gives the steps that a batch of so many
    slices would take.
    """
    training, data = experiment.training, experiment.data
    if training.steps_per_epoch:
        return training.steps_per_epoch
    if training.slices_per_step:
        slices = sum(cache.study(name).slices for name in studies)
        return max(1, round(slices / training.slices_per_step))
    return max(1, round(examples_per_epoch(cache, studies, data) / data.batch))


def training_batches(
    cache: Cache, studies: Sequence[str], data: Data, *, seed: int, start_step: int = 0, rows: range | None = None
) -> Iterator[Batch]:
    """Yields batches for ever, from that of step `start_step` on; of each batch only `rows`, where they are given.

    Each epoch goes through the examples in an order of its own.  With `data.lesion_fraction` an example is, with that
    probability, replaced by one drawn from all slices that hold lesion; it is cropped so that lesion is in it.

    Yields:
      images (B, [T or D,] size, size, C) float32, masks uint8 and distance float16 with K channels, as the cache has
      them, index (B,) int64, and valid: (B, T) for clips and volumes, False where a study had fewer slices; (B,)
      otherwise.  A series is images (B, T, size, size, 2), see `data.series`, with masks (B, size, size, K).
    """
    rows = range(data.batch) if rows is None else rows
    return _batches(_Training(cache, tuple(studies), data, seed, rows, start_step))


def describe_examples(
    cache: Cache, studies: Sequence[str], data: Data, *, seed: int, index: Sequence[int] | np.ndarray
) -> list[str]:
    """Says which slices of which studies the training examples of these global indices are: "case_7 slice 3"."""
    source = _Training(cache, tuple(studies), data, seed, range(data.batch), 0)
    return [str(source.choose(int(one))[0]) for one in index]


def ordered_batches(cache: Cache, studies: Sequence[str], data: Data, *, rows: range | None = None) -> Iterator[Batch]:
    """Yields every example of `examples` once, cropped in the middle; the last batch is padded with valid=False.

    Of each batch only `rows`, where they are given.  `index` is the example's place in `examples`, -1 for padding.
    """
    rows = range(data.batch) if rows is None else rows
    return _batches(_Ordered(cache, tuple(studies), data, rows))


# --- what grain reads: whole batches, so that each array is written once, where the network takes it from -------------


def _indices(step: int, batch: int, rows: range) -> list[int]:
    """The places in the sequence of all examples, of these rows of a step's batch."""
    return [step * batch + row for row in rows]


class _Training:
    """The endless sequence of batches from `first_step` on, of each the examples that stand in `rows`."""

    def __init__(
        self, cache: Cache, studies: tuple[str, ...], data: Data, seed: int, rows: range, first_step: int
    ) -> None:
        self._cache, self._data, self._seed, self._rows = cache, data, seed, rows
        self._first_step = first_step
        self._studies = {name: cache.study(name) for name in studies}
        self._examples = examples(cache, studies, data)
        self._lesions = _lesion_slices(list(self._studies.values()))
        if not self._examples:
            raise UserError("there is no study to train on")
        if not 0 <= data.lesion_fraction <= 1:
            raise UserError(f"data.lesion_fraction={data.lesion_fraction}: it must be from 0 to 1")
        if data.lesion_fraction and not len(self._lesions):
            raise UserError("data.lesion_fraction: no slice of the training studies holds lesion; set it to 0")

    def __repr__(self) -> str:
        return f"_Training({self._cache.fingerprint}, {len(self._examples)} examples, seed {self._seed})"

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, number: Any) -> Batch:
        indices = _indices(self._first_step + int(number), self._data.batch, self._rows)
        return _batch(self._cache, self._data, [self._piece(index) for index in indices])

    def _piece(self, index: int) -> _Piece:
        example, lesion, draw = self.choose(index)
        study, size = self._studies[example.study], self._data.size
        if lesion is not None:
            return _Piece(example, self._corner_with_lesion(draw, study, lesion), index)
        row, column = (int(draw.integers(extent - size + 1)) for extent in study.shape[1:])
        return _Piece(example, (row, column), index)

    def choose(self, index: int) -> tuple[Example, int | None, np.random.Generator]:
        """The slices of the example of a global index, the lesion slice it was drawn for, and its random numbers."""
        draw = np.random.default_rng([self._seed, index, _EXAMPLE])
        length = self._data.kind.slices(self._data.depth)
        if draw.random() < self._data.lesion_fraction:
            name, lesion = self._lesions[draw.integers(len(self._lesions))]
            slices = self._studies[name].slices
            return Example(name, _window_with(draw, lesion, length, slices), min(length, slices)), lesion, draw
        epoch, position = divmod(index, len(self._examples))
        example = self._examples[_order(self._seed, epoch, len(self._examples))[position]]
        if length > 1:
            slices = self._studies[example.study].slices
            start = int(draw.integers(max(1, slices - length + 1)))
            example = Example(example.study, start, min(length, slices))
        return example, None, draw

    def _corner_with_lesion(self, draw: np.random.Generator, study: CachedStudy, lesion: int) -> tuple[int, int]:
        """A random corner such that a random lesion pixel of the slice is in the crop."""
        size = self._data.size
        if study.shape[1:] == (size, size):
            return 0, 0
        pixels = np.argwhere(self._cache.slices(study.study, "masks", lesion, lesion + 1)[0].any(axis=-1))
        row, column = (int(position) for position in pixels[draw.integers(len(pixels))])
        return _window_with(draw, row, size, study.shape[1]), _window_with(draw, column, size, study.shape[2])


class _Ordered:
    """Every example once, then padding up to whole batches; of each batch the examples that stand in `rows`."""

    def __init__(self, cache: Cache, studies: tuple[str, ...], data: Data, rows: range) -> None:
        self._cache, self._data, self._rows = cache, data, rows
        self._examples = examples(cache, studies, data)

    def __repr__(self) -> str:
        return f"_Ordered({self._cache.fingerprint}, {len(self._examples)} examples)"

    def __len__(self) -> int:
        return -(-len(self._examples) // self._data.batch)

    def __getitem__(self, number: Any) -> Batch:
        indices = _indices(int(number), self._data.batch, self._rows)
        return _batch(self._cache, self._data, [self._piece(index) for index in indices])

    def _piece(self, index: int) -> _Piece | None:
        if index >= len(self._examples):
            return None
        example = self._examples[index]
        _, height, width = self._cache.study(example.study).shape
        corner = (height - self._data.size) // 2, (width - self._data.size) // 2
        return _Piece(example, corner, index)


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(count)


def _lesion_slices(studies: Sequence[CachedStudy]) -> list[tuple[str, int]]:
    return [(study.study, index) for study in studies for index, count in enumerate(study.lesion_pixels) if count]


def _window_with(draw: np.random.Generator, position: int, length: int, extent: int) -> int:
    """A random start of a window of `length` that holds `position`, inside 0..extent where it fits."""
    low, high = max(0, position - length + 1), max(0, min(position, extent - length))
    return int(draw.integers(low, high + 1)) if high >= low else 0


@dataclasses.dataclass(frozen=True)
class _Piece:
    """What one row of a batch is cut from: the corner of its crop, and the example's index."""

    example: Example
    corner: tuple[int, int]
    index: int


def _batch(cache: Cache, data: Data, pieces: Sequence[_Piece | None]) -> Batch:
    """Reads the examples of a batch; None and slices that a study does not have are zeros and not valid."""
    batch: Batch = {}
    for name, kind in ARRAYS.items():
        batch[name] = np.empty((len(pieces), *_shape(data, name)), kind)
        for out, piece in zip(batch[name], pieces, strict=True):
            _read(cache, data, name, piece, out)
    counts = np.array([0 if piece is None else piece.example.count for piece in pieces])
    batch["valid"] = np.arange(data.kind.slices(data.depth)) < counts[:, None]
    if not data.kind.holds_slices:
        batch["valid"] = batch["valid"][:, 0]
    batch["index"] = np.array([-1 if piece is None else piece.index for piece in pieces], np.int64)
    return batch


def _shape(data: Data, name: str) -> tuple[int, ...]:
    """Of one example's images, masks or distances."""
    plane = data.size, data.size
    if name != "images":
        return *data.kind.slices_lead(data.depth), *plane, len(data.targets)
    return *data.kind.images_lead(data.depth), *plane, len(data.inputs) * (CHANNELS if data.kind.holds_times else 1)


def _read(cache: Cache, data: Data, name: str, piece: _Piece | None, out: np.ndarray) -> None:
    if piece is None:
        out[...] = 0
        return
    one, (row, column) = piece.example, piece.corner
    if name == "images" and data.kind.holds_times:
        planes = beside_mirror(cache.slices(one.study, name, one.start, one.start + 1))
        out[...] = as_examples(planes[0, row : row + data.size, column : column + data.size])
        return
    slices = out if data.kind.holds_slices else out[None]
    slices[one.count :] = 0
    cache.read_crop(one.study, name, one.start, piece.corner, slices[: one.count])


# --- grain -----------------------------------------------------------------------------------------------------------


def _batches(source: _Training | _Ordered) -> Iterator[Batch]:
    """Reads ahead in threads: most of it is copying, which does not hold Python's lock.

    Processes were three to six times slower: what they read has to be copied once more (docs/performance.md).
    """
    import grain  # takes a second to import, which listing experiments should not pay

    dataset = grain.MapDataset.source(source)  # type: ignore[arg-type]
    threads = min(_THREADS, cores.usable())
    iterator = iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_AHEAD)))
    with contextlib.closing(iterator):
        yield from iterator
