"""How far a network and its twin are apart: forward, loss, gradients, statistics, ten training steps.

Every figure is the largest ||a - b|| / ||b|| over the arrays compared, a from JAX, b from PyTorch, both in float32.
Gradients are taken on eight batches, of whose figures the least counts: a ReLU whose argument lies within a rounding of
zero opens in one program and stays shut in the other, which shows on some batches; a fault shows on all.

Two things keep float32 programs apart that compute the same:

- Some numbers have no value.  A bias before a batch normalisation, or that of an attention's keys, does not change what
  the network computes: its gradient is 0, a float32 program finds rounding in its place, and Adam divides by that, so
  such a bias walks at random.  A run in float64 tells which entries these are: those whose gradient there is below
  `NULL` of the longest in their module (the kernel's, as a rule), and is not 0 in float32.  The gradient of an array
  without other entries counts relative to that longest one; after ten steps such entries are left out, and told.
- Gradients of ReLU networks jump.  Weights that differ by a share d open or shut about a share d of all ReLUs, which
  moves the gradients by about sqrt(d); and Adam's first steps have the size of the learning rate whatever the size of
  the gradient.  So errors grow from step to step, in any two programs.

So PyTorch is held against itself: `rounding` is how far its float32 is from its float64, with weights as they are or
moved by a unit in the last place.  A figure above its bar is excused, and marked, where it is at most `ALLOWANCE`
times that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch

from jaxstroke.torch_twin.sides import Arrays, JaxSide, TorchSide
from jaxstroke.torch_twin.specimen import Specimen, draw_batch, draw_weights

BARS = {"forward": 1e-5, "gradients": 1e-4, "ten_steps": 1e-3}
STEPS = 10
DRAWS = 8
NULL = 1e-9
ALLOWANCE = 10.0

Batch = Mapping[str, np.ndarray]
Note = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The figures of one network; `worst` names the array behind each, `rounding` holds PyTorch's own."""

    network: str
    recipe: str
    device: str
    seed: int
    parameters: int
    forward: float
    loss: float
    gradients: float
    statistics: float | None  # None without batch normalisation
    ten_steps: float
    null_entries: int
    bfloat16: float | None
    rounding: Mapping[str, float]
    worst: Mapping[str, str]

    def above(self) -> list[str]:
        """The figures that are above their bars, or not finite."""
        return [name for name, bar in BARS.items() if not getattr(self, name) <= bar]

    def missed(self) -> list[str]:
        """Those of them that rounding does not explain."""
        return [name for name in self.above() if not getattr(self, name) <= ALLOWANCE * self.rounding.get(name, 0.0)]


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
    variables = draw_weights(specimen.shapes(), seed)
    batches = [draw_batch(specimen.data, seed + number) for number in range(STEPS)]
    ours = JaxSide(specimen, variables, jax_device, None)
    theirs = TorchSide(specimen, variables, torch_device)
    exact = TorchSide(specimen, variables, torch_device, dtype=torch.float64)
    nudged = TorchSide(specimen, _nudged(variables, seed), torch_device)

    note("forward")
    forward = _largest(ours.forward(batches[0]), theirs.forward(batches[0]))
    note("gradients")
    draws = [_gradients(batch, ours, theirs, exact, nudged) for batch in batches[:DRAWS]]
    gradients = min(draw.between for draw in draws)
    note("ten steps")
    null = _null_entries(theirs.gradients(batches[0])[1], exact.gradients(batches[0])[1])
    sides = (ours, theirs, exact, nudged)
    for side in sides:
        side.step(batches[0])
    stored = _largest(ours.statistics(), theirs.statistics())[0] if theirs.statistics() else None
    for side in sides:
        for batch in batches[1:]:
            side.step(batch)
    ends = [_without(side.weights(), null) for side in sides]
    ten = _largest(ends[0], ends[1])
    half = None
    if bfloat16:
        note("bfloat16")
        half = _bfloat16(specimen, variables, batches[0], jax_device, torch_device)
    return Comparison(
        network=specimen.name,
        recipe=specimen.recipe,
        device=torch_device.type,
        seed=seed,
        parameters=sum(array.size for array in null.values()),
        forward=forward[0],
        loss=draws[0].loss,
        gradients=gradients[0],
        statistics=stored,
        ten_steps=ten[0],
        null_entries=sum(int(entries.sum()) for entries in null.values()),
        bfloat16=half,
        rounding={
            "gradients": min(draw.rounding for draw in draws),
            "ten_steps": max(_largest(ends[1], ends[2])[0], _largest(ends[3], ends[2])[0]),
        },
        worst={"forward": forward[1], "gradients": gradients[1], "ten_steps": ten[1]},
    )


@dataclasses.dataclass(frozen=True)
class _Draw:
    """One batch's gradients: JAX against PyTorch, and PyTorch against its float64; the error of the loss."""

    between: tuple[float, str]
    rounding: float
    loss: float


def _gradients(batch: Batch, ours: JaxSide, theirs: TorchSide, exact: TorchSide, nudged: TorchSide) -> _Draw:
    (our_loss, one), (their_loss, other) = ours.gradients(batch), theirs.gradients(batch)
    (_, reference), (_, moved) = exact.gradients(batch), nudged.gradients(batch)
    longest = _longest(reference)
    floors = {
        path: longest[path[:-1]] if np.abs(gradient).max() <= NULL * longest[path[:-1]] else 0.0
        for path, gradient in reference.items()
    }
    pairs = ((other, reference), (moved, reference))
    return _Draw(
        between=_largest(one, other, floors),
        rounding=max(_largest(a, b, floors)[0] for a, b in pairs),
        loss=abs(our_loss - their_loss) / abs(their_loss),
    )


def _bfloat16(specimen: Specimen, variables: dict, batch: Batch, jax_device: Any, device: torch.device) -> float:
    """The forward pass in bfloat16: Linen's own against autocast, which round at different places."""
    ours = JaxSide(specimen, variables, jax_device, "bfloat16").forward(batch)["logits"]
    theirs = TorchSide(specimen, variables, device, autocast=True).forward(batch)["logits"]
    return relative_error(ours, theirs)


def _nudged(variables: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The weights, each moved by up to a unit in its last place."""
    random = np.random.default_rng(seed)
    unit = float(np.finfo(np.float32).eps)
    return jax.tree.map(
        lambda leaf: (leaf * (1.0 + unit * random.uniform(-1.0, 1.0, leaf.shape))).astype(np.float32), dict(variables)
    )


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


def _null_entries(rounded: Arrays, exact: Arrays) -> Arrays:
    """True where the exact gradient is nothing beside the longest of the same module, and the rounded one is noise."""
    longest = _longest(exact)
    return {
        path: (np.abs(gradient) <= NULL * longest[path[:-1]]) & (rounded[path] != 0.0)
        for path, gradient in exact.items()
    }


def _without(arrays: Arrays, entries: Arrays) -> Arrays:
    return {path: np.where(entries[path], 0.0, array) for path, array in arrays.items()}
