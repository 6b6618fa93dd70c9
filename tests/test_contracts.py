"""The parts that carry the papers' ideas, in every way that JAX can run them; shapes that do not fit are refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstroke import sharding
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.losses import binary_cross_entropy, boundary_loss, soft_dice_loss
from jaxstroke.models import apply
from jaxstroke.models.nn.attention import AdditiveGate, NonLocalAttention
from jaxstroke.models.nn.graph import ChannelGraph, GraphConvolution
from jaxstroke.models.nn.memory import MemoryGate, SpatialMemory, TemporalMemory
from jaxstroke.schedules import build_optimiser, learning_rate
from jaxstroke.training import state as states
from jaxstroke.training import step as steps

DRAW = np.random.default_rng(0)
MAP = (2, 4, 4)


def drawn(*shape: int) -> jax.Array:
    return jnp.asarray(DRAW.normal(size=shape).astype(np.float32))


@functools.cache
def toy() -> Experiment:
    return overrides.override(
        catalogue.load("unet_isles18", scale="small"), {"data.size": 16, "data.batch": 4, "model.width": 2}
    )


def batch_of(experiment: Experiment) -> dict[str, Any]:
    data, rows = experiment.data, experiment.data.batch
    shape = (rows, *apply.example_shape(data))
    masks = (DRAW.random((*shape[:-1], len(data.targets))) < 0.2).astype(np.float32)
    return {
        "images": DRAW.normal(size=shape).astype(np.float32),
        "masks": masks,
        "distance": DRAW.normal(size=masks.shape).astype(np.float32),
        "index": np.arange(rows),
        "valid": np.ones((rows, *apply.valid_shape(data)), bool),
    }


def parts(experiment: Experiment) -> tuple[Any, Any]:
    rate = learning_rate(experiment.schedule, experiment.optimiser, steps_per_epoch=4, epochs=2)
    return apply.build(experiment), build_optimiser(experiment.optimiser, rate)


@functools.cache
def stepped() -> Any:
    """One step of the toy, neither compiled nor spread."""
    experiment = toy()
    network, optimiser = parts(experiment)
    state = states.create(network, optimiser, experiment.data, seed=0)
    batch = batch_of(experiment)
    return state, batch, jax.jit(steps.train_step(experiment, network, optimiser))(state, batch)


class InEveryWay(chex.TestCase):
    """Plain, jitted, on a device, under pmap: the same numbers, against what numpy makes of the equations."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_the_memory_gate_weighs_one_memory_against_the_other(self) -> None:
        z, temporal, spatial = drawn(*MAP, 3), drawn(*MAP, 2), drawn(*MAP, 2)
        gate = MemoryGate()
        variables = gate.init(jax.random.key(0), z, temporal, spatial)
        mixed, sown = self.variant(functools.partial(gate.apply, mutable=["intermediates"]))(
            variables, z, temporal, spatial
        )
        (g,) = sown["intermediates"]["gate"]
        chex.assert_trees_all_close(mixed, g * temporal + (1 - g) * spatial, atol=1e-6)
        assert 0 < float(g.min()) < float(g.max()) < 1

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_cross_attention_is_the_equation(self) -> None:
        x, y = drawn(2, 5, 16), drawn(2, 3, 16)
        attention = NonLocalAttention()
        variables = attention.init(jax.random.key(0), x, y)
        answer = self.variant(attention.apply)(variables, x, y)
        weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
        query, key, value = (
            np.asarray(of, np.float64) @ weights[name]["kernel"] + weights[name]["bias"]
            for name, of in (("query", x), ("key", y), ("value", y))
        )
        scores = np.exp(query @ np.swapaxes(key, 1, 2))
        chex.assert_trees_all_close(answer, np.float32(x + (scores / scores.sum(-1, keepdims=True)) @ value), atol=1e-4)

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_graph_fusion_is_the_equation(self) -> None:
        graph = drawn(2, 6, 4)
        fusion = GraphConvolution()
        variables = fusion.init(jax.random.key(0), graph)
        weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
        nodes = np.swapaxes(np.asarray(graph, np.float64), 1, 2)
        near = np.swapaxes(nodes @ weights["adjacency"]["kernel"] + weights["adjacency"]["bias"], 1, 2)
        expected = np.maximum((np.asarray(graph) - near) @ weights["weight"]["kernel"] + weights["weight"]["bias"], 0)
        chex.assert_trees_all_close(self.variant(fusion.apply)(variables, graph), np.float32(expected), atol=1e-5)


@pytest.mark.slow
class TheStepInEveryWay(chex.TestCase):
    """Without jit as well: on a device it runs operation by operation."""

    @chex.variants(with_jit=True, with_device=True, with_pmap=True)
    def test_the_step(self) -> None:
        state, batch, (after, figures) = stepped()
        step = steps.train_step(toy(), *parts(toy()))
        found, told = self.variant(step)(state, batch)
        chex.assert_trees_all_close(told, figures, rtol=1e-5)
        # A bias before a normalisation changes nothing: its gradient is rounding, which Adam divides by its own size.
        moments, others = (optax.tree_utils.tree_get(one.opt_state, "mu") for one in (found, after))
        chex.assert_trees_all_close(moments, others, atol=1e-6)
        rounding = jax.tree.map(lambda one, other: jnp.maximum(abs(one), abs(other)) < 1e-7, moments, others)
        whole = [path for path, leaf in jax.tree.leaves_with_path(rounding) if leaf.all()]
        assert all("conv/bias" in jax.tree_util.keystr(path, simple=True, separator="/") for path in whole)
        kept = (jax.tree.map(lambda new, by: jnp.where(by, 0, new), one.params, rounding) for one in (found, after))
        chex.assert_trees_all_close(*kept, atol=1e-5)
        chex.assert_tree_all_finite((found.params, found.opt_state, told))
        assert int(found.step) == 1


# --- compiled once ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_step_is_compiled_once_for_a_whole_training() -> None:
    experiment = toy()
    network, optimiser = parts(experiment)
    chex.clear_trace_counter()
    once = chex.assert_max_traces(steps.train_step(experiment, network, optimiser), n=1)
    mesh = sharding.make_mesh()
    place = sharding.replicated(mesh)
    step = jax.jit(once, in_shardings=(place, sharding.batch_sharding(mesh)), out_shardings=(place, place))
    state = jax.device_put(states.create(network, optimiser, experiment.data, seed=0), place)
    for _ in range(3):
        state, _ = step(state, sharding.to_devices(batch_of(experiment), mesh))
    with pytest.raises(AssertionError, match="traced"):  # another batch size is another program
        fewer = jax.tree.map(lambda leaf: leaf[:2], batch_of(experiment))
        jax.jit(once)(jax.device_get(state), fewer)


# --- what does not fit is refused when it is traced ------------------------------------------------------------------


def gate() -> Any:
    return MemoryGate().init(jax.random.key(0), drawn(*MAP, 3), drawn(*MAP, 2), drawn(*MAP, 1))


def additive() -> Any:
    return AdditiveGate(2).init(jax.random.key(0), drawn(2, 2, 2, 3), drawn(*MAP, 3), train=False)


def cross() -> Any:
    return NonLocalAttention().init(jax.random.key(0), drawn(2, 16), drawn(2, 3, 16))


def graph() -> Any:
    return ChannelGraph(2, 2).init(jax.random.key(0), drawn(*MAP, 3))


def temporal() -> Any:
    memory = TemporalMemory(2, 2, 4)

    def read(key: jax.Array) -> Any:
        return memory.init(key, memory.initial(2, 8, 8), drawn(*MAP, 3), method="read")

    return read(jax.random.key(0))


def spatial() -> Any:
    from jaxstroke.models.nn.memory import SpatialState

    return SpatialMemory(4, 3).init(jax.random.key(0), SpatialState(drawn(1, 4, 3)), drawn(*MAP, 3), method="read")


def one_logit_for_two_masks(loss: Callable[..., Any]) -> Callable[[], Any]:
    return lambda: loss(drawn(*MAP, 1), drawn(*MAP, 2), jnp.ones((2,), bool))


def valid_of_another_batch() -> Any:
    return soft_dice_loss(drawn(*MAP, 1), drawn(*MAP, 1), jnp.ones((1,), bool))


def batch_without_its_last_row() -> Any:
    state, batch, _ = stepped()
    step = steps.train_step(toy(), *parts(toy()))
    return jax.eval_shape(step, state, {**batch, "valid": batch["valid"][:-1]})


def images_of_another_size() -> Any:
    state, batch, _ = stepped()
    return jax.eval_shape(steps.train_step(toy(), *parts(toy())), state, {**batch, "images": batch["images"][:, :8]})


def fewer_targets_than_the_experiment_has() -> Any:
    experiment = overrides.override(toy(), {"data.targets": ("lesion", "core")})
    network = apply.build(toy())
    variables = jax.eval_shape(lambda: apply.initialise(network, toy().data, jax.random.key(0)))
    return jax.eval_shape(
        lambda variables: apply.forward(network, variables, batch_of(toy()), experiment.data), variables
    )


REFUSED = [
    gate, additive, cross, graph, temporal, spatial,
    one_logit_for_two_masks(soft_dice_loss), one_logit_for_two_masks(binary_cross_entropy),
    one_logit_for_two_masks(boundary_loss), valid_of_another_batch, batch_without_its_last_row,
    images_of_another_size, fewer_targets_than_the_experiment_has,
]  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED, ids=lambda wrong: wrong.__qualname__)
def test_shapes_that_do_not_fit_are_refused(wrong: Callable[[], Any]) -> None:
    with pytest.raises(AssertionError, match=r"\[Chex\]"):
        wrong()
