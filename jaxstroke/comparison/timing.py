"""How long a training step takes, side by side: JAX compiled, PyTorch in its several manners."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import torch

from jaxstroke.comparison.sides import JaxSide, TorchSide, wait
from jaxstroke.comparison.specimen import Specimen, draw_batch, draw_weights

WARM_UP_STEPS = 3
TIMED_STEPS = 10

# The manners of PyTorch, by name, as options of `TorchSide`.
MANNERS: dict[str, dict[str, Any]] = {
    "eager": {},
    "channels-last": {"channels_last": True},
    "autocast": {"channels_last": True, "autocast": True},
    "compile": {"channels_last": True, "autocast": True, "compiled": True},
}


def milliseconds_a_step(
    specimen: Specimen,
    *,
    jax_device: Any,
    torch_device: torch.device,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, float | str]:
    """Milliseconds of one training step by manner; a manner that cannot run has its reason instead."""
    variables, batch = draw_weights(specimen.shapes(), seed), draw_batch(specimen.data, seed)
    placed = jax.device_put(batch, jax_device)
    found: dict[str, float | str] = {}
    for name, dtype in (("jax", None), ("jax bfloat16", "bfloat16")):
        note(f"time: {name}")
        ours = JaxSide(specimen, variables, jax_device, dtype=dtype)
        found[name] = _time(ours.run, placed)
        del ours
    for name, options in MANNERS.items():
        note(f"time: torch {name}")
        theirs = TorchSide(specimen, variables, torch_device, **options)
        try:
            found[f"torch {name}"] = _time(theirs.run, theirs.to_device(batch))
        except Exception as error:  # torch.compile needs a compiler that not every machine has
            if name != "compile":
                raise
            found[f"torch {name}"] = f"not run: {type(error).__name__}"
        del theirs
    return found


def _time(run: Callable[[Any], Any], batch: Any) -> float:
    """The mean over some steps after some that are not counted."""
    for _ in range(WARM_UP_STEPS):
        wait(run(batch))
    begun = time.perf_counter()
    last = None
    for _ in range(TIMED_STEPS):
        last = run(batch)
    wait(last)
    return 1e3 * (time.perf_counter() - begun) / TIMED_STEPS
