"""Everything a training step changes, as one pytree."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxstroke import sharding
from jaxstroke.experiment import Data
from jaxstroke.models import apply


@flax.struct.dataclass
class TrainState:
    """Attributes: `step` counts finished steps; `batch_stats` is empty for networks without batch normalisation."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    def variables(self) -> dict[str, Any]:
        return {"params": self.params, "batch_stats": self.batch_stats}

    def trees(self) -> dict[str, Any]:
        """The state as a checkpoint keeps it: the weights by themselves, so that prediction needs no optimiser."""
        return {"weights": self.variables(), "optimiser": {"step": self.step, "opt_state": self.opt_state}}

    @classmethod
    def from_trees(cls, trees: Mapping[str, Any]) -> TrainState:
        return cls(**trees["weights"], **trees["optimiser"])


def create(
    network: nn.Module,
    optimiser: optax.GradientTransformation,
    data: Data,
    *,
    seed: int,
    state_sharding: TrainState | None = None,
) -> TrainState:
    """Draws the first weights; they depend on the seed alone. It lies as `state_sharding` says (see `shardings`)."""
    # Run once: on a CPU, optimising the program takes many times longer than running it as it is.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    draw = jax.jit(
        lambda: _draw(network, optimiser, data, jax.random.key(seed)),
        out_shardings=state_sharding,
        compiler_options=options,
    )
    return draw()


def shardings(state: TrainState, mesh: Mesh, *, shard_optimiser: bool) -> TrainState:
    """How a state is sharded: replicated, or the optimiser's part of it with a share on each device (ZeRO-1)."""
    replicated = sharding.replicated(mesh)
    state_sharding = jax.tree.map(lambda _: replicated, state)
    if not shard_optimiser:
        return state_sharding
    shares = jax.tree.map(lambda leaf: sharding.shard_largest_axis(mesh, leaf.shape), state.opt_state)
    return state_sharding.replace(opt_state=shares)


def abstract(network: nn.Module, optimiser: optax.GradientTransformation, data: Data) -> TrainState:
    """The shapes and types of the state, nothing computed."""
    return jax.eval_shape(functools.partial(_draw, network, optimiser, data), jax.random.key(0))


def _draw(network: nn.Module, optimiser: optax.GradientTransformation, data: Data, key: jax.Array) -> TrainState:
    variables = apply.initialise(network, data, key)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimiser.init(params),
    )
