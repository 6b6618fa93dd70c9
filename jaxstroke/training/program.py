"""What a training computes, checked and built once: the network, the optimiser, the state's shapes, the two steps.

Whoever trains, times a step, compiles it for other machines or begins a run with imported weights builds this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import optax
from jax.sharding import Mesh

from jaxstroke import sharding
from jaxstroke.experiment import Experiment
from jaxstroke.inference.cascade import checked_first_stage
from jaxstroke.models import apply
from jaxstroke.process import job
from jaxstroke.schedules import build_optimiser, learning_rate
from jaxstroke.training import state as states
from jaxstroke.training.epochs import Epochs
from jaxstroke.training.state import TrainState
from jaxstroke.training.step import Batch, Figures, train_step, validation_step


@dataclasses.dataclass(frozen=True)
class Program:
    """Attributes:
    shapes: the state, abstract, each array with its sharding.
    train: (state, batch) -> (state, figures); the state that goes in is donated.
    validate: (state, batch) -> figures.  Both take a batch as `sharding.to_devices` lays it.
    """

    experiment: Experiment
    mesh: Mesh
    epochs: Epochs
    network: nn.Module
    rate: optax.Schedule
    optimiser: optax.GradientTransformation
    shapes: TrainState
    train: Any
    validate: Any

    def first_state(self, seed: int) -> TrainState:
        """The first weights, which depend on the seed alone, and a fresh optimiser."""
        state_sharding = jax.tree.map(lambda leaf: leaf.sharding, self.shapes)
        return states.create(
            self.network,
            self.optimiser,
            self.experiment.data,
            seed=seed,
            averaged=self.experiment.training.average > 0,
            state_sharding=state_sharding,
        )


def check(experiment: Experiment, mesh: Mesh) -> nn.Module:
    """Raises `UserError` where the experiment cannot be trained on these devices; returns its network.

    What its fields tell by themselves was checked when it was made (`experiment.fields`): this is what they ask of the
    network and of the mesh, and of those of a first stage, which is trained before it.
    """
    if experiment.cascade.stage1_networks:
        check(checked_first_stage(experiment), mesh)
    sharding.check_batch(experiment.data.batch, mesh, experiment.parallel.microbatches)
    return apply.build(experiment)


def build(experiment: Experiment, mesh: Mesh, *, steps_per_epoch: int) -> Program:
    """Nothing is compiled or computed until a step is called."""
    network = check(experiment, mesh)
    epochs = Epochs(experiment.training.epochs, steps_per_epoch)
    rate = learning_rate(experiment.schedule, experiment.optimiser, steps_per_epoch=epochs.steps, epochs=epochs.count)
    optimiser = build_optimiser(experiment.optimiser, rate)
    shapes = states.abstract(network, optimiser, experiment.data, averaged=experiment.training.average > 0)
    state_sharding = states.shardings(shapes, mesh, shard_optimiser=experiment.parallel.shard_optimiser)
    given, replicated = (state_sharding, sharding.batch_sharding(mesh)), sharding.replicated(mesh)
    if experiment.parallel.map == "pmap":
        train = _mapped(experiment, network, optimiser, mesh)
    else:
        train = jax.jit(
            train_step(experiment, network, optimiser),
            in_shardings=given,
            out_shardings=(state_sharding, replicated),
            donate_argnums=0,
        )
    judge = validation_step(experiment, network, one_by_one=sharding.is_one_cpu(mesh))
    validate = jax.jit(judge, in_shardings=given, out_shardings=replicated)
    shapes = sharding.with_shardings(shapes, state_sharding)
    return Program(experiment, mesh, epochs, network, rate, optimiser, shapes, train, validate)


def compiled(program: Program) -> Program:
    """The program with its steps compiled for these devices before either runs; of a job, in every process.

    A process that has compiled, or found its program in the cache, long before the others would enter a sum over all
    devices alone, and on a CPU give up there after 30 s.  A step under pmap cannot be compiled beforehand.
    """
    mesh, experiment = program.mesh, program.experiment
    batch = sharding.with_shardings(apply.abstract_batch(experiment.data), sharding.batch_sharding(mesh))
    validate, train = program.validate.lower(program.shapes, batch).compile(), program.train
    if experiment.parallel.map == "jit":
        train = train.lower(program.shapes, batch).compile()
    job.wait_for_all()
    return dataclasses.replace(program, train=train, validate=validate)


def _mapped(
    experiment: Experiment, network: nn.Module, optimiser: optax.GradientTransformation, mesh: Mesh
) -> Callable[..., Any]:
    """The training step under `jax.pmap`, which takes and gives what the jitted one does."""
    if hasattr(network, "axis_name"):
        network = network.clone(axis_name=sharding.DATA_AXIS)
    mapped = jax.pmap(
        train_step(experiment, network, optimiser, sharding.DATA_AXIS),
        axis_name=sharding.DATA_AXIS,
        devices=list(mesh.devices.flat),
        in_axes=(None, 0),
        out_axes=None,
        donate_argnums=0,
    )
    replicated = sharding.replicated(mesh)

    def everywhere(leaf: jax.Array) -> jax.Array:
        """What pmap returns lies on this process's devices; the same arrays, as part of what all processes have."""
        own = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, replicated, own)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Figures]:
        new, figures = mapped(state, jax.tree.map(sharding.split_by_device, batch))
        return (jax.tree.map(everywhere, new) if jax.process_count() > 1 else new), figures

    return step
