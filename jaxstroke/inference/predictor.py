"""A study in, probabilities out, on the study's own grid.

The network is compiled once, for windows of the size it was trained on, whatever the shapes of the studies: a plane
larger than the window is covered by overlapping windows and blended, a stack of slices is fed in pieces of fixed
length.  A clip network goes through the slices in order and carries its memory from piece to piece, so a study of any
number of slices is one stream to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstroke import sharding
from jaxstroke.data.prepare import prepare, restore
from jaxstroke.data.series import as_examples, beside_mirror
from jaxstroke.data.study import Study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data, Experiment
from jaxstroke.inference.windows import blending_weights, corners, pad_to
from jaxstroke.models import apply
from jaxstroke.models.nn.resize import resize_bilinear
from jaxstroke.runs.folder import RunFolder

# Slices that go through a slice network at a time.
_SLICES_AT_A_TIME = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """Attributes:
    probabilities: (D, H, W, K), a channel for each target.
    maps: by path, each (D, H, W).
    spread: (D, H, W, K), the standard deviation over runs and mirrored copies; None where there is one pass alone.
    votes: (D, H, W, K), the share of the passes that is above the rule's threshold; None as well.
    figures: of the study, see `unlike`.
    """

    probabilities: np.ndarray
    maps: Mapping[str, np.ndarray]
    spread: np.ndarray | None = None
    votes: np.ndarray | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Predictor:
    """A compiled network; call it with as many studies as there are.

    `intermediates` are names of maps that the network can show beside its answer: attention, gates, differences, the
    synthetic map (`available` lists them).  A name is the whole path, such as "decoder1/gate/attention", or its end;
    what has several channels is averaged over them, and coarse maps are brought to full size.
    """

    def __init__(self, experiment: Experiment, variables: Any, *, intermediates: Sequence[str] = ()) -> None:
        self._data = experiment.data
        self._variables = variables
        self._network = apply.build(experiment)
        self._maps = _resolve(intermediates, available(experiment)) if intermediates else ()
        self._run = jax.jit(self._scan if self._data.kind.in_order else self._forward)

    @classmethod
    def of_run(cls, run: RunFolder, *, intermediates: Sequence[str] = (), choose_by: str = "") -> Predictor:
        """The network of a trained run with its best weights; `choose_by` names another score than the run's own."""
        experiment = run.experiment()
        return cls(experiment, best_weights(run, experiment, choose_by=choose_by)[0], intermediates=intermediates)

    def replace_weights(self, variables: Any) -> None:
        """Takes new weights of the same network; nothing is compiled again."""
        self._variables = variables

    def study(self, study: Study) -> Answer:
        """Answers on the study's own grid."""
        prepared = prepare(study, self._data)
        return self._answer(restore(self._predict(prepared.images), prepared.inverse))

    def prepared(self, images: np.ndarray) -> Answer:
        """Answers on the grid of prepared images (D, H, W, C)."""
        return self._answer(self._predict(np.asarray(images, np.float32)))

    def _answer(self, values: np.ndarray) -> Answer:
        targets = len(self._data.targets)
        maps = {path: values[..., targets + index] for index, path in enumerate(self._maps)}
        return Answer(values[..., :targets], maps)

    def _channel_count(self) -> int:
        return len(self._data.targets) + len(self._maps)

    # --- what is compiled: probabilities, and behind them a channel for each map that was asked for ---

    def _forward(self, variables: Any, *inputs: jax.Array) -> jax.Array:
        def run(*images: jax.Array) -> jax.Array:
            outputs, sown = self._network.apply(variables, *images, train=False, mutable=["intermediates"])
            return self._channels(outputs, sown)

        return run(*inputs) if sharding.on_accelerator() else apply.one_after_another(run, *inputs)

    def _scan(self, variables: Any, memory: Any, images: jax.Array, valid: jax.Array) -> tuple[Any, jax.Array]:
        (memory, outputs), sown = self._network.apply(
            variables, memory, images, valid, method="scan", mutable=["intermediates"]
        )
        return memory, self._channels(outputs, sown)

    def _channels(self, outputs: Any, sown: Any) -> jax.Array:
        probabilities = jax.nn.sigmoid(outputs.logits)
        shown = _shown(sown, self._data) if self._maps else {}
        return jnp.concatenate([probabilities, *(_full_size(shown[path], self._data.size) for path in self._maps)], -1)

    # --- how a study is cut for it ---

    def _predict(self, images: np.ndarray) -> np.ndarray:
        if self._data.kind.in_order:
            return self._stream(images)
        return self._volume(images) if self._data.kind.holds_slices else self._slices(images)

    def _slices(self, images: np.ndarray) -> np.ndarray:
        """Every window of every slice, a fixed number at a time."""
        size = self._data.size
        images = beside_mirror(images) if self._data.kind.holds_times else images
        images, shape = pad_to(images, (1, size, size)), images.shape[:3]
        windows = corners(images.shape[1:3], (size, size))
        where = [(d, *corner) for d in range(shape[0]) for corner in windows]
        blend = _Blend(images.shape[:3], (1, size, size), self._channel_count())
        for first in range(0, len(where), _SLICES_AT_A_TIME):
            piece = where[first : first + _SLICES_AT_A_TIME]
            window = np.stack([images[d, y : y + size, x : x + size] for d, y, x in piece])
            if self._data.kind.holds_times:
                window = as_examples(window)
            answer = np.asarray(self._run(self._variables, pad_to(window, (_SLICES_AT_A_TIME,))))
            for (d, y, x), probabilities in zip(piece, answer[: len(piece)], strict=True):
                blend.add((d, y, x), probabilities[None])
        return blend.result(shape)

    def _stream(self, images: np.ndarray) -> np.ndarray:
        """Each window's column of slices in order, the memory carried from one piece of the column to the next."""
        size, length = self._data.size, self._data.depth
        shape = images.shape[:3]
        images = pad_to(images, (1, size, size))
        blend = _Blend(images.shape[:3], (length, size, size), self._channel_count())
        for y, x in corners(images.shape[1:3], (size, size)):
            memory = self._network.apply(self._variables, 1, size, size, method="initial_memory")
            for first, window, valid in _pieces(images[:, y : y + size, x : x + size], length):
                memory, answer = self._run(self._variables, memory, window[None], valid[None])
                blend.add((first, y, x), np.asarray(answer)[0, : int(valid.sum())])
        return blend.result(shape)

    def _volume(self, images: np.ndarray) -> np.ndarray:
        """Overlapping boxes, weighted by a Gaussian."""
        box = (self._data.depth, self._data.size, self._data.size)
        shape = images.shape[:3]
        images = pad_to(images, box)
        blend = _Blend(images.shape[:3], box, self._channel_count())
        for d, y, x in corners(images.shape[:3], box):
            window = images[d : d + box[0], y : y + box[1], x : x + box[2]]
            valid = np.arange(d, d + box[0]) < shape[0]
            blend.add((d, y, x), np.asarray(self._run(self._variables, window[None], valid[None]))[0])
        return blend.result(shape)


def best_weights(run: RunFolder, experiment: Experiment, *, choose_by: str = "") -> tuple[Any, int]:
    """A run's best weights and their step; weights with a number that is not finite are an error."""
    network = apply.build(experiment)
    shapes = jax.eval_shape(lambda key: apply.initialise(network, experiment.data, key), jax.random.key(0))
    restored = run.checkpoints().restore_best(
        {"weights": sharding.with_shardings({"batch_stats": {}, **shapes}, sharding.local_sharding())},
        choose_by=choose_by or experiment.evaluation.choose_by,
    )
    weights = restored.trees["weights"]
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(weights)):
        raise UserError(f"{run.path}: the weights of step {restored.step} hold numbers that are not finite")
    return weights, restored.step


def available(experiment: Experiment) -> list[str]:
    """The paths of the maps that the network of an experiment can show."""
    network, data = apply.build(experiment), experiment.data
    batch = {
        "images": jnp.zeros((1, *apply.example_shape(data)), jnp.float32),
        "valid": jnp.ones((1, *apply.valid_shape(data)), bool),
    }

    def sow(key: jax.Array) -> Any:
        variables = apply.initialise(network, data, key)
        return network.apply(variables, *apply.inputs(batch, data), train=False, mutable=["intermediates"])[1]

    return sorted(_shown(jax.eval_shape(sow, jax.random.key(0)), data))


def telling(experiment: Experiment, most: int = 4) -> list[str]:
    """The few maps that a person is shown unasked: the finest attention, gates and differences that there are."""
    digits = {path: sum(int(digit) for digit in path if digit.isdigit()) for path in available(experiment)}
    return sorted(digits, key=lambda path: (digits[path], path))[:most]


def _shown(sown: Any, data: Data) -> dict[str, Any]:
    """What a network sowed that is a map over its slices, by path: (*lead, h, w, channels), lead as in its logits."""
    lead = 1 + len(data.kind.slices_lead(data.depth))
    leaves = jax.tree_util.tree_flatten_with_path(sown.get("intermediates", {}))[0]
    paths = {"/".join(str(key.key) for key in path if hasattr(key, "key")): value for path, value in leaves}
    shown = {path: value for path, value in paths.items() if value.ndim == lead + 3}
    if data.kind.in_order:  # a walk over slices stacks what it sows with the slices in front
        shown = {path: _swap(value) for path, value in shown.items()}
    return shown


def _swap(value: Any) -> Any:
    if isinstance(value, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((value.shape[1], value.shape[0], *value.shape[2:]), value.dtype)
    return jnp.swapaxes(value, 0, 1)


def _full_size(value: jax.Array, size: int) -> jax.Array:
    mean = jnp.mean(value.astype(jnp.float32), axis=-1, keepdims=True)
    return resize_bilinear(mean, (size, size), align_corners=False)


def _resolve(names: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    """The paths that the names mean: a whole path, or every path that ends in the name."""
    found = []
    for name in names:
        meant = [path for path in paths if path == name or path.endswith("/" + name)]
        if not meant:
            known = ", ".join(paths) or "none"
            raise UserError(f"intermediates: the network shows nothing named {name}; it can show: {known}")
        found += [path for path in meant if path not in found]
    return tuple(found)


def _pieces(column: np.ndarray, length: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Cuts slices into pieces of fixed length; the last is padded and its missing slices marked."""
    for first in range(0, len(column), length):
        window = column[first : first + length]
        yield first, pad_to(window, (length,)), np.arange(length) < len(window)


class _Blend:
    """Weighted mean of overlapping windows of probabilities."""

    def __init__(self, shape: tuple[int, ...], window: tuple[int, ...], targets: int) -> None:
        self._sum = np.zeros((*shape, targets), np.float32)
        self._weight = np.zeros((*shape, 1), np.float32)
        self._plane = blending_weights(window)[..., None]

    def add(self, corner: tuple[int, ...], values: np.ndarray) -> None:
        where = tuple(slice(start, start + size) for start, size in zip(corner, values.shape, strict=False))
        weights = self._plane[: values.shape[0]]
        self._sum[where] += weights * values
        self._weight[where] += weights

    def result(self, shape: tuple[int, ...]) -> np.ndarray:
        mean = self._sum / np.maximum(self._weight, np.finfo(np.float32).tiny)
        return mean[tuple(slice(0, size) for size in shape)]
