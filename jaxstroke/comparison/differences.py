"""How far a network and its twin are apart: forward, loss, gradients, statistics, ten training steps.

Every figure is the largest ||a - b|| / ||b|| over the arrays compared, a from JAX, b from PyTorch.

Float32 alone cannot judge ten steps.  A ReLU whose argument lies within a rounding of zero opens in one program and
stays shut in the other, and Adam's first steps have the size of the learning rate whatever the size of the gradient,
so that roundings of 1e-7 may become 1e-2 in ten steps of two programs that compute the same.  So both programs also
run in float64, from the same weights on the same batches: there roundings are 1e-16, and what is left of the distance
is what the two compute differently.  The bars of float64 are hard.  A gradient or ten steps above its bar in float32
is told, and passes only because float64 has shown that it is rounding.

Float32's gradients are taken on eight batches, of whose figures the least counts, since a ReLU jumps on some of them.

Some numbers have no value.  A bias before a batch normalisation, or that of an attention's keys, does not change what
the network computes: its gradient is 0, a program finds rounding in its place, and Adam divides that by its own size,
so such a bias walks at random.  Such entries are those whose gradient in float64 is below `NULL` of the longest in
their module (the kernel's, as a rule), and not 0 in both widths.  The gradient of an array without other entries counts
relative to that longest one; after ten steps such entries are left out, and told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch

from jaxstroke.comparison.batches import draw_batch
from jaxstroke.comparison.sides import Arrays, JaxSide, TorchSide
from jaxstroke.comparison.specimen import Specimen, draw_weights

BARS = {"forward": 1e-5, "gradients": 1e-4, "statistics": 1e-5, "ten_steps": 1e-3}
# Ten steps make 2e-7 of a rounding of 1e-16 at the cascade's rate of 3e-2, elsewhere below 1e-9 (docs/parity.md).
BARS_FLOAT64 = {"gradients": 1e-9, "statistics": 1e-9, "ten_steps": 1e-6}
ROUNDING_EXPLAINS = ("gradients", "ten_steps")
STEPS = 10
DRAWS = 8
NULL = 1e-9

Batch = Mapping[str, np.ndarray]
Note = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Figures:
    """The figures in one precision; `worst` names the array behind each."""

    forward: float
    loss: float
    gradients: float
    statistics: float | None  # None without batch normalisation
    ten_steps: float
    worst: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Comparison:
    network: str
    recipe: str
    device: str
    seed: int
    parameters: int
    null_entries: int
    float32: Figures
    float64: Figures
    bfloat16: float | None

    def above(self) -> list[str]:
        """The figures that are above their bars, or not finite: "ten_steps", "ten_steps_float64"."""
        return [
            *above_bars(self.float32, BARS),
            *(f"{name}_float64" for name in above_bars(self.float64, BARS_FLOAT64)),
        ]

    def missed(self) -> list[str]:
        """Those of them that fail: all of float64, and of float32 what float64 does not show to be rounding."""
        above = self.above()
        agree = not any(name.endswith("_float64") for name in above)
        return [name for name in above if not (agree and name in ROUNDING_EXPLAINS)]


@dataclasses.dataclass(frozen=True)
class Null:
    """What has no value: `entries` marks them by path, `arrays` names those that have nothing else."""

    entries: Arrays
    arrays: frozenset[tuple[str, ...]]


def above_bars(figures: Figures, bars: Mapping[str, float]) -> list[str]:
    """The figures that are above their bars, or not finite."""
    found = {name: getattr(figures, name) for name in bars}
    return [name for name, figure in found.items() if figure is not None and not figure <= bars[name]]


def compare(
    specimen: Specimen,
    *,
    jax_device: Any,
    torch_device: torch.device,
    seed: int,
    bfloat16: bool = True,
    note: Note = lambda text: None,
) -> Comparison:
    """Runs both sides with the same drawn weights on the same drawn batches."""
    variables, batches = draw(specimen, seed)
    note("float64")
    exact, null = in_float64(specimen, variables, batches, jax_device=jax_device, torch_device=torch_device)
    note("float32")
    narrow = JaxSide(specimen, variables, jax_device), TorchSide(specimen, variables, torch_device)
    rounded = _figures(*narrow, batches, null, draws=DRAWS)
    half = None
    if bfloat16:
        note("bfloat16")
        half = _bfloat16(specimen, variables, batches[0], jax_device, torch_device)
    return Comparison(
        network=specimen.name,
        recipe=specimen.recipe,
        device=torch_device.type,
        seed=seed,
        parameters=sum(array.size for array in null.entries.values()),
        null_entries=sum(int(entries.sum()) for entries in null.entries.values()),
        float32=rounded,
        float64=exact,
        bfloat16=half,
    )


def draw(specimen: Specimen, seed: int) -> tuple[dict, list[Batch]]:
    """Weights, and a batch for each step."""
    batches: list[Batch] = [draw_batch(specimen.data, seed + number) for number in range(STEPS)]
    return draw_weights(specimen.shapes(), seed), batches


def in_float64(
    specimen: Specimen, variables: dict, batches: Sequence[Batch], *, jax_device: Any, torch_device: torch.device
) -> tuple[Figures, Null]:
    """What no rounding explains, and which gradients are nothing but rounding."""
    rounded = TorchSide(specimen, variables, torch_device).gradients(batches[0])[1]
    with jax.enable_x64(True):
        ours = JaxSide(specimen, variables, jax_device, wide=True)
        theirs = TorchSide(specimen, variables, torch_device, wide=True)
        null = _null(theirs.gradients(batches[0])[1], rounded)
        return _figures(ours, theirs, batches, null, draws=1), null


def _figures(ours: JaxSide, theirs: TorchSide, batches: Sequence[Batch], null: Null, *, draws: int) -> Figures:
    """Takes both sides through the batches, a step each."""
    forward = _largest(ours.forward(batches[0]), theirs.forward(batches[0]))
    found = [_gradients(batch, ours, theirs, null) for batch in batches[:draws]]
    gradients = min(found, key=lambda one: one[0])
    statistics = None
    for number, batch in enumerate(batches):
        ours.step(batch)
        theirs.step(batch)
        if number == 0 and theirs.statistics():
            statistics = _largest(ours.statistics(), theirs.statistics())
    ten = _largest(_without(ours.weights(), null.entries), _without(theirs.weights(), null.entries))
    named = {"forward": forward, "gradients": gradients, "statistics": statistics, "ten_steps": ten}
    return Figures(
        forward=forward[0],
        loss=found[0][2],
        gradients=gradients[0],
        statistics=None if statistics is None else statistics[0],
        ten_steps=ten[0],
        worst={name: one[1] for name, one in named.items() if one is not None},
    )


def _gradients(batch: Batch, ours: JaxSide, theirs: TorchSide, null: Null) -> tuple[float, str, float]:
    """One batch: the largest error of a gradient, the array's name, the error of the loss."""
    (our_loss, one), (their_loss, other) = ours.gradients(batch), theirs.gradients(batch)
    longest = _longest(other)
    floors = {path: longest[path[:-1]] if path in null.arrays else 0.0 for path in other}
    return (*_largest(one, other, floors), abs(our_loss - their_loss) / abs(their_loss))


def _bfloat16(specimen: Specimen, variables: dict, batch: Batch, jax_device: Any, device: torch.device) -> float:
    """The forward pass in bfloat16: Linen's own against autocast, which round at different places."""
    ours = JaxSide(specimen, variables, jax_device, dtype="bfloat16").forward(batch)["logits"]
    theirs = TorchSide(specimen, variables, device, autocast=True).forward(batch)["logits"]
    return relative_error(ours, theirs)


def relative_error(a: np.ndarray, b: np.ndarray, floor: float = 0.0) -> float:
    """||a - b|| / max(||b||, floor), in float64; 0 where both are zero, infinite where only b is."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    difference, length = float(np.linalg.norm(a - b)), max(float(np.linalg.norm(b)), floor)
    return 0.0 if difference == 0.0 else difference / length if length else float("inf")


def _largest(
    ours: Mapping[Any, np.ndarray], theirs: Mapping[Any, np.ndarray], floors: Mapping[Any, float] | None = None
) -> tuple[float, str]:
    """The largest relative error over named arrays, and the name; NaN counts as the largest."""
    if ours.keys() != theirs.keys():
        raise ValueError(f"only one side has {sorted(map(str, ours.keys() ^ theirs.keys()))}")
    errors = {key: relative_error(ours[key], theirs[key], floors[key] if floors else 0.0) for key in theirs}
    worst = max(errors, key=lambda key: float("inf") if np.isnan(errors[key]) else errors[key])
    return errors[worst], worst if isinstance(worst, str) else "/".join(worst[1:])


def _longest(gradients: Arrays) -> dict[tuple[str, ...], float]:
    """The length of the longest gradient in each module."""
    longest: dict[tuple[str, ...], float] = {}
    for path, gradient in gradients.items():
        longest[path[:-1]] = max(longest.get(path[:-1], 0.0), float(np.linalg.norm(gradient)))
    return longest


def _null(exact: Arrays, rounded: Arrays) -> Null:
    """Where a gradient is rounding: in float64 nothing beside the longest of the same module, and not 0 in both."""
    longest = _longest(exact)
    nothing = {path: np.abs(gradient) <= NULL * longest[path[:-1]] for path, gradient in exact.items()}
    return Null(
        entries={path: nothing[path] & ((exact[path] != 0.0) | (rounded[path] != 0.0)) for path in exact},
        arrays=frozenset(path for path, entries in nothing.items() if entries.all()),
    )


def _without(arrays: Arrays, entries: Arrays) -> Arrays:
    return {path: np.where(entries[path], 0.0, array) for path, array in arrays.items()}
