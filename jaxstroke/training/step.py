"""One step of training and one of validation: pure functions of a state and the whole batch, which `program` compiles.

The same function serves one device and many.  Under `jit` the batch is split over the mesh, the state is
replicated, and the compiler adds the sums over devices (a batch's statistics are those of the whole batch).  Under
`pmap` the function runs on each device with its rows, and the sums are written here.  Random numbers are drawn from
(seed, step) and each example's index in the whole batch, so the result does not depend on how many devices there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxstroke.augment import augment
from jaxstroke.experiment import Data, Experiment
from jaxstroke.losses import total_loss
from jaxstroke.models import apply
from jaxstroke.models.nn.precision import at_least_float32
from jaxstroke.training.state import TrainState, moved

Batch = dict[str, jax.Array]
Figures = dict[str, jax.Array]


def step_key(seed: int, step: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), step)


def train_step(
    experiment: Experiment, network: nn.Module, optimiser: optax.GradientTransformation, axis_name: str | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, Figures]]:
    """Returns (state, batch) -> (state, figures), not yet compiled.

    With `axis_name` the batch is one device's rows, and the state that comes out is the same on every device.
    """
    data, microbatches = experiment.data, experiment.parallel.microbatches
    remat = apply.wants_remat(experiment, network)

    def gradient(params: Any, batch_stats: Any, batch: Batch, dropout_key: jax.Array) -> tuple[Any, Any, Any]:
        def loss_of(params: Any) -> tuple[jax.Array, tuple[Figures, Any]]:
            variables = {"params": params, "batch_stats": batch_stats}
            outputs, new_stats = apply.train_forward(network, variables, batch, data, dropout_key, remat=remat)
            everything, rows = _of_all_devices((outputs, batch), axis_name)
            loss, terms = total_loss(everything, rows, experiment.loss)
            return loss, ({"loss": loss, **terms}, new_stats)

        (_, (figures, new_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return new_stats, figures, gradients

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Figures]:
        _check_batch(batch, data)
        augment_key, dropout_key = jax.random.split(step_key(experiment.training.seed, state.step))
        # They travel as narrow as they lie.
        batch = {**batch, **{name: at_least_float32(batch[name]) for name in ("masks", "distance")}}
        batch = augment(augment_key, batch, experiment.augment)
        if microbatches == 1:
            batch_stats, figures, gradients = gradient(state.params, state.batch_stats, batch, dropout_key)
        else:
            batch_stats, figures, gradients = _in_microbatches(gradient, microbatches, state, batch, dropout_key)
        if axis_name is not None:
            # Every device has the whole batch's loss, of which it saw the way through its own rows: together, all ways.
            gradients = jax.lax.pmean(gradients, axis_name)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        figures = {**figures, "gradient_norm": optax.tree.norm(gradients)}
        params, average = optax.apply_updates(state.params, updates), state.average
        if average is not None:
            weights = {"params": params, "batch_stats": batch_stats}
            average = moved(average, weights, state.step, experiment.training.average)
        return TrainState(state.step + 1, params, batch_stats, opt_state, average), figures

    return step


def _check_batch(batch: Batch, data: Data) -> None:
    """The shapes that `data.stream` gives; of so many rows as there are here."""
    chex.assert_equal_shape_prefix(list(batch.values()), 1)
    chex.assert_shape(batch["images"], (None, *apply.example_shape(data)))
    chex.assert_shape(batch["valid"], (None, *apply.valid_shape(data)))
    chex.assert_equal_shape((batch["masks"], batch["distance"]))


def _of_all_devices(tree: Any, axis_name: str | None) -> Any:
    """Every device's rows, in order; under jit a batch is whole already."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda rows: jax.lax.all_gather(rows, axis_name, tiled=True), tree)


def _in_microbatches(
    gradient: Callable[..., tuple[Any, Any, Any]], count: int, state: TrainState, batch: Batch, key: jax.Array
) -> tuple[Any, Any, Any]:
    """The mean over microbatches, which go through one after another; statistics are handed on from each.

    A microbatch takes every so-manieth row, so that no row moves to another device.
    """
    split = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(len(x) // count, count, *x.shape[1:]), 0, 1), batch)

    def add(carry: tuple[Any, Any], microbatch: tuple[jax.Array, Batch]) -> tuple[tuple[Any, Any], None]:
        batch_stats, sums = carry
        number, rows = microbatch
        batch_stats, *found = gradient(state.params, batch_stats, rows, jax.random.fold_in(key, number))
        return (batch_stats, jax.tree.map(jnp.add, sums, tuple(found))), None

    numbers = jnp.arange(count)
    shapes = jax.eval_shape(gradient, state.params, state.batch_stats, jax.tree.map(lambda x: x[0], split), key)[1:]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (batch_stats, sums), _ = jax.lax.scan(add, (state.batch_stats, zeros), (numbers, split))
    figures, gradients = jax.tree.map(lambda total: total / count, sums)
    return batch_stats, figures, gradients


def validation_step(
    experiment: Experiment, network: nn.Module, *, one_by_one: bool = False
) -> Callable[[TrainState, Batch], Figures]:
    """Returns (state, batch) -> the loss and how many examples it stands for, not yet compiled."""

    def step(state: TrainState, batch: Batch) -> Figures:
        outputs = apply.forward(network, state.variables(), batch, experiment.data, one_by_one=one_by_one)
        loss, _ = total_loss(outputs, batch, experiment.loss)
        return {"loss": loss, "count": jnp.sum(batch["valid"].astype(jnp.float32))}

    return step
