"""Holds what was exported against the JAX network, on random inputs and on a phantom's."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from jaxstroke import phantoms
from jaxstroke.comparison.differences import relative_error
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.prepare import prepare
from jaxstroke.data.series import as_examples, beside_mirror
from jaxstroke.exports.trained import Arrays, Trained
from jaxstroke.inference.windows import pad_to

BAR = 1e-4
PHANTOM_SEED = 2018
STREAMED_SLICES = 3

# Takes and gives arrays in JAX's layout, channels last: (images, *memory) -> [probabilities, *memory].
Runner = Callable[[Arrays], Arrays]


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison: the largest ||a - b|| / ||b|| over the outputs, b from JAX."""

    inputs: str
    shape: tuple[int, ...]
    outputs: int
    error: float

    @property
    def passed(self) -> bool:
        return self.error <= BAR


def check(trained: Trained, run: Runner, *, open_size: bool) -> list[Check]:
    """Runs both on every input; `open_size` says that the export takes other heights and widths too."""
    reference = jax.jit(trained.function)
    found = []
    with jax.default_matmul_precision("highest"):
        for word, images in _inputs(trained, open_size):
            error, outputs = _compare(trained, run, reference, images)
            found.append(Check(word, images[0].shape, outputs, error))
    return found


def _inputs(trained: Trained, open_size: bool) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Names, and images: one array, or for a streaming network the slices one after another."""
    random = np.random.default_rng(0)
    size = trained.data.size
    sizes = [(2, size), (3, size + trained.multiple if open_size else size)]
    slices = STREAMED_SLICES if trained.streams else 1
    for batch, side in sizes:
        shape = trained.image_shape(batch, side)
        yield "random", [random.normal(size=shape).astype(np.float32) for _ in range(slices)]
    yield "phantom", _phantom(trained, slices)


def _compare(trained: Trained, run: Runner, reference: Callable, images: list[np.ndarray]) -> tuple[float, int]:
    """Each side carries its own memory from slice to slice."""
    batch, size = images[0].shape[0], images[0].shape[-2]
    ours = theirs = trained.initial_memory(batch, size)
    worst, count = 0.0, 0
    for array in images:
        expected = [np.asarray(leaf) for leaf in reference(array, *ours)]
        count = len(expected)
        try:
            answered = run([array, *theirs])
        except Exception:  # each runtime has errors of its own; a program that cannot run is as wrong as can be
            return float("inf"), count
        if [one.shape for one in answered] != [one.shape for one in expected]:
            return float("inf"), count
        errors = [relative_error(a, b) for a, b in zip(answered, expected, strict=True)]
        worst = float("inf") if not np.isfinite(errors).all() else max(worst, *errors)
        ours, theirs = expected[1:], answered[1:]
    return worst, count


def _phantom(trained: Trained, slices: int) -> list[np.ndarray]:
    """Images of a computed patient, prepared as the experiment wants them."""
    data = trained.data
    layout = find_layout(data.layout)
    with tempfile.TemporaryDirectory(prefix="jaxstroke-export-") as folder:
        root = Path(folder) / "phantom"
        phantoms.generate(data.layout, cases=1, seed=PHANTOM_SEED, folder=root, with_ctp="CTP" in data.channels)
        study = read_with(data.preparation, layout.find(root)[0], data.channels)
        images = prepare(study, data).images
    if data.kind.holds_times:
        images = as_examples(beside_mirror(images))
    if data.derived:  # what an earlier stage computes lies in 0..1; noise stands for it here
        noise = np.random.default_rng(0).uniform(size=(*images.shape[:-1], len(data.derived)))
        images = np.concatenate([images, noise.astype(np.float32)], axis=-1)
    rows, columns = ((length - data.size) // 2 for length in images.shape[-3:-1])
    images = images[..., rows : rows + data.size, columns : columns + data.size, :].astype(np.float32)
    middle = len(images) // 2
    if trained.streams:
        first = max(0, min(middle, len(images) - slices))
        return [images[number][None] for number in range(first, min(first + slices, len(images)))]
    if data.kind.holds_slices:
        return [pad_to(images[: data.depth], (data.depth,))[None]]
    return [images[middle : middle + 1]]
