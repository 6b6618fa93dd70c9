"""Learning rates and optimisers, as the papers and their published code have them.

Weight decay falls on every variable, biases and normalisation included, as it does in PyTorch's and Keras's
optimisers that the papers used.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxstroke.experiment import Optimiser, Schedule
from jaxstroke.models.nn.precision import at_least_float32

BETA_1, BETA_2 = 0.9, 0.999
# PyTorch's default.  Keras's is 1e-7; against gradients clipped to a norm of 1 the difference is far below noise.
EPSILON = 1e-8


def learning_rate(schedule: Schedule, optimiser: Optimiser, *, steps_per_epoch: int, epochs: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step (0 for the first).

    constant: eta.  halving: eta / 2^floor(step / (N steps_per_epoch)).  warmup_cosine, with W warm-up and T steps in
    all: eta step / W, then eta (1 + cos(pi (step - W) / (T - W))) / 2, and 0 from T on.
    """
    eta = optimiser.learning_rate
    if schedule.name == "constant":
        return optax.constant_schedule(eta)
    if schedule.name == "halving":
        return _halving(eta, period=schedule.half_every_epochs * steps_per_epoch)
    if schedule.warmup_epochs == 0:
        return optax.cosine_decay_schedule(eta, decay_steps=epochs * steps_per_epoch)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=eta,
        warmup_steps=schedule.warmup_epochs * steps_per_epoch,
        decay_steps=epochs * steps_per_epoch,  # Optax counts the warm-up in
    )


def build_optimiser(optimiser: Optimiser, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns Adam in one of three manners of weight decay, after clipping where the experiment asks for it.

    With m the bias-corrected Adam direction, eta the learning rate and d the decay:
      adam            w -= eta m(g + d w)      L2 in the gradient, as `torch.optim.Adam`
      adamw           w -= eta (m(g) + d w)    as `torch.optim.AdamW`
      adamw_unscaled  w -= eta m(g) + d w      decay not times the learning rate, as TensorFlow Addons' AdamW
    """
    adam = optax.scale_by_adam(b1=BETA_1, b2=BETA_2, eps=EPSILON)
    descend = optax.scale_by_learning_rate(schedule)
    decay = optimiser.weight_decay
    steps = {
        "adam": (optax.add_decayed_weights(decay), adam, descend),
        "adamw": (adam, optax.add_decayed_weights(decay), descend),
        "adamw_unscaled": (adam, descend, optax.add_decayed_weights(-decay)),
    }
    clip = [] if optimiser.clip_variable_norm is None else [clip_by_variable_norm(optimiser.clip_variable_norm)]
    return optax.chain(*clip, *steps[optimiser.name])


def clip_by_variable_norm(norm: float) -> optax.GradientTransformation:
    """Scales the gradient of each variable on its own down to the norm, if it is longer (Keras's `clipnorm`)."""

    def clip(gradient: jax.Array) -> jax.Array:
        length = jnp.sqrt(jnp.sum(jnp.square(at_least_float32(gradient))))
        return gradient * (norm / jnp.maximum(length, norm)).astype(gradient.dtype)

    return optax.stateless(lambda gradients, _: jax.tree.map(clip, gradients))


def _halving(eta: float, *, period: int) -> optax.Schedule:
    # In whole numbers, so that the step at a boundary never falls on the wrong side by rounding.
    return lambda step: jnp.ldexp(jnp.asarray(eta, float), -(jnp.asarray(step) // period))
