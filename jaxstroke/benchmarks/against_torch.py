"""The same network in both libraries, a step each in turn: JAX compiled, PyTorch in its several manners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxstroke.benchmarks.clock import Times, in_turn
from jaxstroke.comparison.batches import draw_batch
from jaxstroke.comparison.sides import JaxSide, TorchSide, wait
from jaxstroke.comparison.specimen import Specimen, draw_weights
from jaxstroke.torch_twin.place import Place

# The manners of PyTorch, by name, as options of `TorchSide`; autocast computes in bfloat16, as our second manner does.
FLOAT32: dict[str, dict[str, Any]] = {"torch eager": {}, "torch channels-last": {"channels_last": True}}
BFLOAT16: dict[str, dict[str, Any]] = {"torch autocast": {"channels_last": True, "autocast": True}}
COMPILED: dict[str, dict[str, Any]] = {
    "torch compile": {"channels_last": True, "compiled": True},
    "torch compile autocast": {"channels_last": True, "autocast": True, "compiled": True},
}


def manners(place: Place) -> dict[str, dict[str, Any]]:
    """What is timed where: on a CPU PyTorch's compiler needs one for C++, and half precision is slower."""
    return FLOAT32 if place.name == "cpu" else {**FLOAT32, **BFLOAT16, **COMPILED}


def times(
    specimen: Specimen, place: Place, *, rounds: int, seed: int = 0, note: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, Times], dict[str, Times]]:
    """Of each manner the times of a training step and of a forward, all in turn in every round."""
    variables, batch = draw_weights(specimen.shapes(), seed), draw_batch(specimen.data, seed)
    train: dict[str, Callable[[], Any]] = {}
    forward: dict[str, Callable[[], Any]] = {}

    def add(name: str, side: JaxSide | TorchSide, placed: Any) -> None:
        train[name] = lambda: wait(side.run(placed))
        forward[name] = lambda: wait(side.run_forward(placed))
        for run in (train[name], forward[name]):
            run()  # which compiles

    placed = jax.device_put(batch, place.jax_device)
    note("preparing jax")
    add("jax", JaxSide(specimen, variables, place.jax_device), placed)
    if place.name != "cpu":
        add("jax bfloat16", JaxSide(specimen, variables, place.jax_device, dtype="bfloat16"), placed)
    for name, options in manners(place).items():
        note(f"preparing {name}")
        side = TorchSide(specimen, variables, place.torch_device, **options)
        add(name, side, side.to_device(batch))
    note("timing PyTorch and ours")
    return in_turn(train, rounds=rounds, warm_up=2), in_turn(forward, rounds=rounds, warm_up=2)


def ratio(times: dict[str, Times], ours: str = "jax", like: str = "") -> float:
    """The best time of PyTorch's manners of the same precision over ours: above 1 we are faster."""
    half = "autocast" in like
    theirs = [one.best for name, one in times.items() if name.startswith("torch") and ("autocast" in name) == half]
    return min(theirs) / times[ours].best
