"""Twenty training steps on 1, 4 and 8 devices, under jit and pmap; prints the losses, the last weights and their
running mean as JSON.

A program of its own, because the number of devices is fixed when JAX starts: python steps_on_devices.py EXPERIMENT ...
In float64, because in float32 a sum in another order is another rounding, which ReLUs and Adam's first steps make
large within twenty steps (docs/parity.md); what the programs compute can only be told apart from that without it.
"""

import gc
import json
import os
import sys
from typing import Any

STEPS, BATCH, SIZE = 20, 8, 16
WAYS = (
    *(("jit", count, {}) for count in (1, 4)),
    ("pmap", 8, {"parallel.map": "pmap"}),
    ("shares", 4, {"parallel.shard_optimiser": True}),
    ("remat", 1, {"model.remat": True}),
)


def main() -> None:
    # Compiled without optimising: that takes most of the time, and the sums over devices are the same.
    quickly = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {quickly}"
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    from jaxstroke.process import door

    gc.set_threshold(door.COLLECT_EVERY)
    json.dump({name: runs(name) for name in sys.argv[1:]}, sys.stdout)


def runs(name: str) -> dict[str, object]:
    from jaxstroke.experiment import catalogue, overrides

    small = {"data.size": SIZE, "data.batch": BATCH, "model.width": 2, "optimiser.learning_rate": 1e-3}
    small |= {"training.average": 0.9}
    experiment = overrides.override(catalogue.load(name, scale="small"), small)
    drawn = first_state(experiment)
    return {
        f"{way} {count}": curve(overrides.override(experiment, changes), count, drawn) for way, count, changes in WAYS
    }


def curve(experiment: Any, count: int, drawn: Any) -> dict[str, object]:
    import jax
    import numpy as np

    from jaxstroke import sharding
    from jaxstroke.training import program

    mesh = sharding.make_mesh(jax.devices()[:count])
    built = program.build(experiment, mesh, steps_per_epoch=STEPS)
    state_sharding = jax.tree.map(lambda leaf: leaf.sharding, built.shapes)
    state = jax.device_put(drawn, state_sharding)
    losses = []
    for step in range(STEPS):
        state, figures = built.train(state, sharding.to_devices(batch(experiment.data, step), mesh))
        losses.append(float(figures["loss"]))
    weights, average = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (state.trained(), state.average)
    )
    assert weights.dtype == average.dtype == np.float64
    optimiser_bytes = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.opt_state))
    kept = {"weights": weights.tolist(), "average": average.tolist()}
    return {"losses": losses, **kept, "optimiser_bytes_a_device": optimiser_bytes}


def first_state(experiment: Any) -> Any:
    import jax
    import numpy as np

    from jaxstroke import sharding
    from jaxstroke.training import program

    one_device = sharding.make_mesh(jax.devices()[:1])
    drawn = jax.device_get(program.build(experiment, one_device, steps_per_epoch=STEPS).first_state(0))
    return jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, drawn)


def batch(data: Any, step: int) -> dict[str, Any]:
    import numpy as np

    draw = np.random.default_rng(step)
    masks = (draw.random((BATCH, SIZE, SIZE, len(data.targets))) < 0.2).astype(float)
    return {
        "images": draw.normal(size=(BATCH, SIZE, SIZE, len(data.inputs))) + 2 * masks[..., :1],
        "masks": masks,
        "distance": draw.normal(size=masks.shape),
        "index": np.arange(BATCH) + step * BATCH,
        "valid": np.ones(BATCH, bool),
    }


if __name__ == "__main__":
    main()
