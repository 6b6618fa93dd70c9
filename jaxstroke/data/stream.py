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

from jaxstroke.data.cache.format import Cache, CachedStudy
from jaxstroke.data.series import as_examples, beside_mirror
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data, Experiment
from jaxstroke.process import cores
from jaxstroke.process.orphans import end_with_parent

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
      images (B, [T or D,] size, size, C) float32, masks and distance with K channels, index (B,) int64, and valid:
      (B, T) for clips and volumes, False where a study had fewer slices; (B,) otherwise.  A series is
      images (B, T, size, size, 2), see `data.series`, with masks (B, size, size, K).
    """
    rows = range(data.batch) if rows is None else rows
    source = _Training(cache, tuple(studies), data, seed, rows, start_step)
    return _batches(source, len(rows), data.workers)


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
    return _batches(_Ordered(cache, tuple(studies), data, rows), len(rows), workers=0)


# --- what grain reads ------------------------------------------------------------------------------------------------


def _place(position: int, batch: int, rows: range) -> int:
    """The place in the sequence of all examples, of a position in the sequence of these rows of its batches."""
    step, row = divmod(position, len(rows))
    return step * batch + rows[row]


class _Training:
    """The endless sequence of training examples that stand in `rows` of the batches from `first_step` on."""

    def __init__(
        self, cache: Cache, studies: tuple[str, ...], data: Data, seed: int, rows: range, first_step: int
    ) -> None:
        self._cache, self._data, self._seed, self._rows = cache, data, seed, rows
        self._first = first_step * data.batch
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

    def __getitem__(self, position: Any) -> dict[str, Any]:
        end_with_parent()  # a process of grain's would outlive a killed training
        index = self._first + _place(int(position), self._data.batch, self._rows)
        example, lesion, draw = self.choose(index)
        study, size = self._studies[example.study], self._data.size
        if lesion is None:
            corner = tuple(int(draw.integers(extent - size + 1)) for extent in study.shape[1:])
        else:
            corner = self._corner_with_lesion(draw, study, lesion)
        return _cut(self._cache, self._data, example, (corner[0], corner[1]), index)

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
    """Every example once, then padding up to whole batches; of them those that stand in `rows`."""

    def __init__(self, cache: Cache, studies: tuple[str, ...], data: Data, rows: range) -> None:
        self._cache, self._data, self._rows = cache, data, rows
        self._examples = examples(cache, studies, data)

    def __repr__(self) -> str:
        return f"_Ordered({self._cache.fingerprint}, {len(self._examples)} examples)"

    def __len__(self) -> int:
        return -(-len(self._examples) // self._data.batch) * len(self._rows)

    def __getitem__(self, position: Any) -> dict[str, Any]:
        index = _place(int(position), self._data.batch, self._rows)
        if index >= len(self._examples):
            padding = _cut(self._cache, self._data, self._examples[0], (0, 0), 0)
            return {name: np.full_like(value, -1 if name == "index" else 0) for name, value in padding.items()}
        example = self._examples[index]
        _, height, width = self._cache.study(example.study).shape
        corner = (height - self._data.size) // 2, (width - self._data.size) // 2
        return _cut(self._cache, self._data, example, corner, index)


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(count)


def _lesion_slices(studies: Sequence[CachedStudy]) -> list[tuple[str, int]]:
    return [(study.study, index) for study in studies for index, count in enumerate(study.lesion_pixels) if count]


def _window_with(draw: np.random.Generator, position: int, length: int, extent: int) -> int:
    """A random start of a window of `length` that holds `position`, inside 0..extent where it fits."""
    low, high = max(0, position - length + 1), max(0, min(position, extent - length))
    return int(draw.integers(low, high + 1)) if high >= low else 0


def _cut(cache: Cache, data: Data, example: Example, corner: tuple[int, int], index: int) -> dict[str, Any]:
    """Reads one example; slices that the study does not have are zeros and not valid."""
    length = data.kind.slices(data.depth)
    rows, columns = (slice(start, start + data.size) for start in corner)
    arrays: dict[str, Any] = {}
    count = 0
    for name in ("images", "masks", "distance"):
        taken = cache.slices(example.study, name, example.start, example.start + example.count)
        taken = beside_mirror(taken) if name == "images" and data.kind.holds_times else taken
        taken = taken[:, rows, columns]
        count = len(taken)
        piece = np.zeros((length, data.size, data.size, taken.shape[-1]), np.float32)
        piece[:count] = taken
        arrays[name] = piece if data.kind.holds_slices else piece[0]
    if data.kind.holds_times:
        arrays["images"] = as_examples(arrays["images"])
    arrays["valid"] = np.arange(length) < count if data.kind.holds_slices else np.array(True)
    arrays["index"] = np.array(index, np.int64)
    return arrays


# --- grain -----------------------------------------------------------------------------------------------------------


def _batches(source: _Training | _Ordered, batch: int, workers: int) -> Iterator[Batch]:
    """Reads ahead in threads, or in `workers` processes; both give the same batches in the same order."""
    import grain  # takes a second to import, which listing experiments should not pay

    dataset = grain.MapDataset.source(source).batch(batch, batch_fn=_stack)  # type: ignore[arg-type]
    threads = min(_THREADS, cores.usable())
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_AHEAD)
    stream = dataset.to_iter_dataset(options)
    if workers:
        _parse_absl_flags()
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    iterator = iter(stream)
    with contextlib.closing(iterator):
        try:
            for made in iterator:
                # What comes from a process lies in shared memory, which is given back when these views go.
                yield {name: np.array(value) for name, value in made.items()} if workers else made
        except RuntimeError as error:
            if not workers:
                raise
            raise UserError(
                f"a process that reads data ended ({error}); it may have been short of memory. "
                "Continue the run with --set data.workers=0"
            ) from error


def _stack(examples: Sequence[dict[str, np.ndarray]]) -> Batch:
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def _parse_absl_flags() -> None:
    """Grain's workers read absl flags, which nobody parses in a program that is not an absl one."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
