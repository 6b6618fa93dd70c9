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
    """Attributes:
    step: counts finished steps.
    batch_stats: empty for networks without batch normalisation.
    average: the running mean of parameters and statistics, as `variables` has them; None where none is kept.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None

    def trained(self) -> dict[str, Any]:
        """The weights that a step changes."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def variables(self) -> dict[str, Any]:
        """The weights to predict with: the running mean where one is kept."""
        return self.trained() if self.average is None else self.average

    def trees(self) -> dict[str, Any]:
        """The state as a checkpoint keeps it: the weights by themselves, so that prediction needs no optimiser."""
        trained = {} if self.average is None else {"trained": self.trained()}
        optimiser = {"step": self.step, "opt_state": self.opt_state, **trained}
        return {"weights": self.variables(), "optimiser": optimiser}

    @classmethod
    def from_trees(cls, trees: Mapping[str, Any]) -> TrainState:
        optimiser = dict(trees["optimiser"])
        trained = optimiser.pop("trained", None)
        if trained is None:
            return cls(**trees["weights"], **optimiser)
        return cls(**trained, **optimiser, average=trees["weights"])


def first(params: Any, batch_stats: Any, optimiser: optax.GradientTransformation, *, averaged: bool) -> TrainState:
    """The state before the first step; the running mean begins with the first weights."""
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if averaged else None
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimiser.init(params), average)


def moved(average: Any, weights: Any, step: jax.Array, keep: float) -> Any:
    """The running mean after a step, the first being number 0: keep m + (1 - keep) w.

    The first steps keep less, (1 + step) / (10 + step) at most, so that the weights that were drawn are soon forgotten.
    """
    kept = jnp.minimum(keep, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda mean, new: (kept * mean + (1 - kept) * new).astype(mean.dtype), average, weights)


def create(
    network: nn.Module,
    optimiser: optax.GradientTransformation,
    data: Data,
    *,
    seed: int,
    averaged: bool = False,
    state_sharding: TrainState | None = None,
) -> TrainState:
    """Draws the first weights; they depend on the seed alone. It lies as `state_sharding` says (see `shardings`)."""
    # Run once: on a CPU, optimising the program takes many times longer than running it as it is.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    draw = jax.jit(
        lambda: _draw(network, optimiser, data, averaged, jax.random.key(seed)),
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


def abstract(
    network: nn.Module, optimiser: optax.GradientTransformation, data: Data, *, averaged: bool = False
) -> TrainState:
    """The shapes and types of the state, nothing computed."""
    return jax.eval_shape(functools.partial(_draw, network, optimiser, data, averaged), jax.random.key(0))


def _draw(
    network: nn.Module, optimiser: optax.GradientTransformation, data: Data, averaged: bool, key: jax.Array
) -> TrainState:
    variables = apply.initialise(network, data, key)
    return first(variables["params"], variables.get("batch_stats", {}), optimiser, averaged=averaged)
