"""The same network in both libraries, a step each in turn: JAX compiled, PyTorch in its several manners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxstroke.benchmarks.clock import Times, in_turn
from jaxstroke.comparison.batches import draw_batch
from jaxstroke.comparison.sides import JaxSide, TorchSide, wait
from jaxstroke.comparison.specimen import Specimen, draw_weights
from jaxstroke.torch_twin.place import Place

Manners = dict[str, dict[str, Any]]

# The manners of PyTorch, by name, as options of `TorchSide`; autocast computes in bfloat16, as our second manner does.
FLOAT32: Manners = {"torch eager": {}, "torch channels-last": {"channels_last": True}}
BFLOAT16: Manners = {"torch autocast": {"channels_last": True, "autocast": True}}
COMPILED: Manners = {
    "torch compile": {"channels_last": True, "compiled": True},
    "torch compile autocast": {"channels_last": True, "autocast": True, "compiled": True},
}


def manners(place: Place) -> list[Manners]:
    """What is timed where, in groups that are timed together: PyTorch's compiler takes minutes, so it comes last.

    On a CPU the compiler needs one for C++, and half precision is slower.
    """
    return [FLOAT32] if place.name == "cpu" else [{**FLOAT32, **BFLOAT16}, COMPILED]


def times(
    specimen: Specimen, place: Place, *, rounds: int, seed: int = 0, note: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[dict[str, Times], dict[str, Times]]]:
    """Of each manner the times of a training step and of a forward, all of a group and ours in turn in every round.

    After each group come the times of all so far, ours those of the rounds of every group.
    """
    variables, batch = draw_weights(specimen.shapes(), seed), draw_batch(specimen.data, seed)
    placed = jax.device_put(batch, place.jax_device)
    note("preparing jax")
    ours = {"jax": _runs(JaxSide(specimen, variables, place.jax_device), placed)}
    if place.name != "cpu":
        ours["jax bfloat16"] = _runs(JaxSide(specimen, variables, place.jax_device, dtype="bfloat16"), placed)
    found: tuple[dict[str, Times], dict[str, Times]] = {}, {}
    for group in manners(place):
        sides = dict(ours)
        for name, options in group.items():
            note(f"preparing {name}")
            side = TorchSide(specimen, variables, place.torch_device, **options)
            sides[name] = _runs(side, side.to_device(batch))
        note(f"timing ours and {', '.join(group)}")
        for which in (0, 1):
            timed = in_turn({name: runs[which] for name, runs in sides.items()}, rounds=rounds, warm_up=2)
            for name, one in timed.items():
                before = found[which].get(name, Times(()))
                found[which][name] = Times(before.seconds + one.seconds)
        yield found


def _runs(side: JaxSide | TorchSide, placed: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step and a forward, both compiled."""
    both = lambda: wait(side.run(placed)), lambda: wait(side.run_forward(placed))
    for run in both:
        run()
    return both


def ratio(times: dict[str, Times], ours: str = "jax", like: str = "") -> float:
    """The best time of PyTorch's manners of the same precision over ours: above 1 we are faster."""
    half = "autocast" in like
    theirs = [one.best for name, one in times.items() if name.startswith("torch") and ("autocast" in name) == half]
    return min(theirs) / times[ours].best
