"""One step of training and one of validation: pure functions of the whole batch, compiled once.

The same function serves one device and many: the batch is cut along the mesh, the state is whole on each device, and
the compiler adds the sums over devices (a batch's statistics are those of the whole batch).  Random numbers are drawn
from (seed, step) and each example's global index, so the result does not depend on how many devices there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxstroke import devices
from jaxstroke.augment import augment
from jaxstroke.experiment import Experiment
from jaxstroke.losses import total_loss
from jaxstroke.models import apply
from jaxstroke.training.state import TrainState

Batch = dict[str, jax.Array]
Figures = dict[str, jax.Array]


def step_key(seed: int, step: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), step)


def train_step(
    experiment: Experiment, network: nn.Module, optimiser: optax.GradientTransformation
) -> Callable[[TrainState, Batch], tuple[TrainState, Figures]]:
    """Returns (state, batch) -> (state, figures), not yet compiled."""
    data = experiment.data

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Figures]:
        augment_key, dropout_key = jax.random.split(step_key(experiment.training.seed, state.step))
        batch = augment(augment_key, batch, experiment.augment)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[Figures, Any]]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            outputs, batch_stats = apply.train_forward(network, variables, batch, data, dropout_key)
            loss, terms = total_loss(outputs, batch, experiment.loss)
            return loss, (terms, batch_stats)

        (loss, (terms, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        figures = {"loss": loss, "gradient_norm": optax.tree.norm(gradients), **terms}
        new = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return new, figures

    return step


def validation_step(experiment: Experiment, network: nn.Module) -> Callable[[TrainState, Batch], Figures]:
    """Returns (state, batch) -> the loss and how many examples it stands for, not yet compiled."""

    def step(state: TrainState, batch: Batch) -> Figures:
        outputs = apply.forward(network, state.variables(), batch, experiment.data)
        loss, _ = total_loss(outputs, batch, experiment.loss)
        return {"loss": loss, "count": jnp.sum(batch["valid"].astype(jnp.float32))}

    return step


def compile_steps(
    experiment: Experiment, network: nn.Module, optimiser: optax.GradientTransformation, over: Mesh
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the training step (its state is donated) and the validation step, jitted over the mesh."""
    whole, cut = devices.replicated(over), devices.by_batch(over)
    train = jax.jit(
        train_step(experiment, network, optimiser),
        in_shardings=(whole, cut),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )
    validate = jax.jit(validation_step(experiment, network), in_shardings=(whole, cut), out_shardings=whole)
    return train, validate
