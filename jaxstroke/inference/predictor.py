"""A study in, probabilities out, on the study's own grid.

The network is compiled once, for windows of the size it was trained on, whatever the shapes of the studies: a plane
larger than the window is covered by overlapping windows and blended, a stack of slices is fed in pieces of fixed
length.  A clip network goes through the slices in order and carries its memory from piece to piece, so a study of any
number of slices is one stream to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxstroke.data.prepare import prepare, restore
from jaxstroke.data.study import Study
from jaxstroke.experiment import Experiment
from jaxstroke.inference.windows import blending_weights, corners, pad_to
from jaxstroke.models import apply

# Slices that go through a slice network at a time.
_SLICES_AT_A_TIME = 8

Probabilities = np.ndarray


class Predictor:
    """A compiled network; call it with as many studies as there are."""

    def __init__(self, experiment: Experiment, variables: Any) -> None:
        self._experiment = experiment
        self._data = experiment.data
        self._variables = variables
        self._network = apply.build(experiment)
        self._run = jax.jit(self._scan if self._data.example == "clip" else self._forward)
        self._predict: Callable[[np.ndarray], Probabilities] = {
            "slice": self._slices,
            "series": self._slices,
            "clip": self._stream,
            "volume": self._volume,
        }[self._data.example]

    def replace_weights(self, variables: Any) -> None:
        """Takes new weights of the same network; nothing is compiled again."""
        self._variables = variables

    def study(self, study: Study) -> Probabilities:
        """Returns (D, H, W, K) probabilities on the study's own grid."""
        prepared = prepare(study, self._data)
        return restore(self.prepared(prepared.images), prepared.inverse)

    def prepared(self, images: np.ndarray) -> Probabilities:
        """Returns (D, H, W, K) probabilities for prepared images (D, H, W, C)."""
        return self._predict(np.asarray(images, np.float32))

    # --- what is compiled ---

    def _forward(self, variables: Any, images: jax.Array) -> jax.Array:
        outputs = self._network.apply(variables, images, train=False)
        return jax.nn.sigmoid(outputs.logits)  # type: ignore[union-attr]

    def _scan(self, variables: Any, memory: Any, images: jax.Array, valid: jax.Array) -> tuple[Any, jax.Array]:
        memory, outputs = self._network.apply(variables, memory, images, valid, method="scan")  # type: ignore[misc]
        return memory, jax.nn.sigmoid(outputs.logits)

    # --- how a study is cut for it ---

    def _slices(self, images: np.ndarray) -> Probabilities:
        """Every window of every slice, a fixed number at a time."""
        size = self._data.size
        images, shape = pad_to(images, (1, size, size)), images.shape[:3]
        windows = corners(images.shape[1:3], (size, size))
        where = [(d, *corner) for d in range(shape[0]) for corner in windows]
        blend = _Blend(images.shape[:3], (1, size, size), len(self._data.targets))
        for first in range(0, len(where), _SLICES_AT_A_TIME):
            piece = where[first : first + _SLICES_AT_A_TIME]
            cut = np.stack([images[d, y : y + size, x : x + size] for d, y, x in piece])
            if self._data.example == "series":
                cut = np.moveaxis(cut, -1, 1)[..., None]  # time points (H, W, T) become (T, H, W, 1)
            answer = np.asarray(self._run(self._variables, pad_to(cut, (_SLICES_AT_A_TIME,))))
            for (d, y, x), probabilities in zip(piece, answer[: len(piece)], strict=True):
                blend.add((d, y, x), probabilities[None])
        return blend.result(shape)

    def _stream(self, images: np.ndarray) -> Probabilities:
        """Each window's column of slices in order, the memory carried from one piece of the column to the next."""
        size, length = self._data.size, self._data.depth
        shape = images.shape[:3]
        images = pad_to(images, (1, size, size))
        blend = _Blend(images.shape[:3], (length, size, size), len(self._data.targets))
        for y, x in corners(images.shape[1:3], (size, size)):
            memory = self._network.apply(self._variables, 1, size, size, method="initial_memory")
            for first, cut, valid in _pieces(images[:, y : y + size, x : x + size], length):
                memory, answer = self._run(self._variables, memory, cut[None], valid[None])
                blend.add((first, y, x), np.asarray(answer)[0, : int(valid.sum())])
        return blend.result(shape)

    def _volume(self, images: np.ndarray) -> Probabilities:
        """Overlapping boxes, weighted by a Gaussian."""
        box = (self._data.depth, self._data.size, self._data.size)
        shape = images.shape[:3]
        images = pad_to(images, box)
        blend = _Blend(images.shape[:3], box, len(self._data.targets))
        for d, y, x in corners(images.shape[:3], box):
            cut = images[d : d + box[0], y : y + box[1], x : x + box[2]]
            blend.add((d, y, x), np.asarray(self._run(self._variables, cut[None]))[0])
        return blend.result(shape)


def _pieces(column: np.ndarray, length: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Cuts slices into pieces of fixed length; the last is padded and its missing slices marked."""
    for first in range(0, len(column), length):
        cut = column[first : first + length]
        yield first, pad_to(cut, (length,)), np.arange(length) < len(cut)


class _Blend:
    """Weighted mean of overlapping windows of probabilities."""

    def __init__(self, shape: tuple[int, ...], window: tuple[int, ...], heads: int) -> None:
        self._sum = np.zeros((*shape, heads), np.float32)
        self._weight = np.zeros((*shape, 1), np.float32)
        self._plane = blending_weights(window)[..., None]

    def add(self, corner: tuple[int, ...], values: np.ndarray) -> None:
        where = tuple(slice(start, start + size) for start, size in zip(corner, values.shape, strict=False))
        weights = self._plane[: values.shape[0]]
        self._sum[where] += weights * values
        self._weight[where] += weights

    def result(self, shape: tuple[int, ...]) -> Probabilities:
        mean = self._sum / np.maximum(self._weight, np.finfo(np.float32).tiny)
        return mean[tuple(slice(0, size) for size in shape)]
