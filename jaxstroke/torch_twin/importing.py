"""A PyTorch state dict of a twin becomes a run that training goes on with, from step 0 and a fresh optimiser."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp

from jaxstroke import files, sharding
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment
from jaxstroke.runs import folder as runs
from jaxstroke.torch_twin import reading, registry, weights
from jaxstroke.training import program as training
from jaxstroke.training import state as states


def import_weights(source: Path, experiment: Experiment, out: Path) -> int:
    """Writes the run folder; returns how many numbers came in."""
    run = runs.RunFolder(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: something is there already; choose another -o")
    state = _state(source, experiment)
    about = runs.describe(
        device=sharding.describe(),
        seed=experiment.training.seed,
        data={
            "imported": {"weights": str(source.absolute()), "sha256": files.sha256(source)},
            # No data yet: the run takes those that it is first trained on.
            "data": "",
            "data_fingerprint": None,
            "phantom": False,
            "split": {"train": [], "validation": [], "test": []},
        },
    )
    run.start(experiment, about)
    checkpoints = run.checkpoints()
    checkpoints.save(0, state.trees(), {"best_steps": {}})
    checkpoints.close()
    return sum(leaf.size for leaf in jax.tree.leaves(state.variables()))


def _state(source: Path, experiment: Experiment) -> states.TrainState:
    # On one device, whatever there are: it may be trained elsewhere.  How long an epoch is does not matter here, as the
    # rate is no part of the optimiser's state.
    program = training.build(experiment, sharding.make_mesh(jax.local_devices()[:1]), steps_per_epoch=1)
    groups = (*(len(group) for group in experiment.data.groups), *(1 for _ in experiment.data.derived))
    twin = registry.build(experiment.model.name, program.network, groups)
    variables = weights.to_flax(reading.read_state_dict(source), twin, program.shapes.variables(), source=str(source))
    params = jax.tree.map(jnp.asarray, variables["params"])
    statistics = jax.tree.map(jnp.asarray, variables.get("batch_stats", {}))
    return states.first(params, statistics, program.optimiser, averaged=experiment.training.average > 0)
