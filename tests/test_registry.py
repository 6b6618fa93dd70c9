"""The same questions asked of every experiment and every network; a new file is asked them by being there."""

from __future__ import annotations

import functools
import itertools
import typing

import jax
import jax.numpy as jnp
import pytest

from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, Model, catalogue, overrides
from jaxstroke.models import apply, registry
from jaxstroke.schedules import build_optimiser, learning_rate
from jaxstroke.training import state as states
from jaxstroke.training import step as steps


def distinct_programs() -> list[str]:
    """The experiments, less those whose step is the program of another at both scales."""
    first: dict[object, str] = {}
    for name in catalogue.names():
        first.setdefault(tuple(_program(catalogue.load(name, scale=scale)) for scale in ("small", "full")), name)
    return list(first.values())


def _program(one: Experiment) -> tuple[object, ...]:
    """What a step is compiled for: network, shapes, loss, optimiser."""
    return (
        repr(one.model),
        tuple(len(group) for group in one.data.groups),
        len(one.data.derived),
        (one.data.example, one.data.size, one.data.depth, one.data.batch, len(one.data.targets)),
        tuple(one.loss.terms),
        repr(one.augment),
        (one.optimiser.name, one.optimiser.clip_variable_norm, one.schedule.name),
    )


NAMES = distinct_programs()


def _batch(experiment: Experiment, examples: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What the stream gives, as shapes."""
    data = experiment.data
    shape = (examples, *apply.example_shape(data))
    lead = shape[:2] if data.example in ("clip", "volume") else shape[:1]
    masks = (*lead, data.size, data.size, len(data.targets))
    return {
        "images": jax.ShapeDtypeStruct(shape, jnp.float32),
        "masks": jax.ShapeDtypeStruct(masks, jnp.float32),
        "distance": jax.ShapeDtypeStruct(masks, jnp.float32),
        "valid": jax.ShapeDtypeStruct((examples, *apply.valid_shape(data)), jnp.bool_),
        "index": jax.ShapeDtypeStruct((examples,), jnp.int32),
    }


@functools.cache
def _loaded(name: str, scale: str = "small") -> Experiment:
    return catalogue.load(name, scale=scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_takes_one_abstract_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One training step of every experiment, traced with the shapes of its real batches: nothing is computed."""
    experiment, forward = _loaded(name), apply.forward
    network = apply.build(experiment)
    schedule, epochs = experiment.schedule, experiment.training.epochs
    rate = learning_rate(schedule, experiment.optimiser, steps_per_epoch=5, epochs=epochs)
    optimiser = build_optimiser(experiment.optimiser, rate)
    before = states.abstract(network, optimiser, experiment.data)
    batch = _batch(experiment, experiment.data.batch)
    after, figures = jax.eval_shape(steps.train_step(experiment, network, optimiser), before, batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), before
    ), "a step must give back a state of the same shapes and types, or it is compiled again at the next"
    assert set(experiment.loss.terms) <= figures.keys()
    assert all(value.shape == () and value.dtype == jnp.float32 for value in figures.values())
    answered = []  # tracing is all that this takes, so that what validation answers is looked at as it passes by
    monkeypatch.setattr(apply, "forward", lambda *given, **how: answered.append(forward(*given, **how)) or answered[-1])
    judged = jax.eval_shape(steps.validation_step(experiment, network), before, batch)
    assert judged["loss"].shape == ()
    (outputs,) = answered
    assert outputs.logits.shape == batch["masks"].shape and outputs.logits.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_builds_at_full_scale(name: str) -> None:
    experiment = _loaded(name, "full")
    assert experiment.name == name and experiment.title
    network = apply.build(experiment)
    outputs = jax.eval_shape(
        lambda key: network.init_with_output(
            {"params": key}, *apply.inputs(_zeros(_batch(experiment, 1)), experiment.data), train=False
        )[0],
        jax.random.key(0),
    )
    assert outputs.logits.shape[-1] == len(experiment.data.targets)


def _zeros(batch: dict[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    return {name: jnp.zeros(one.shape, one.dtype) for name, one in batch.items()}


@pytest.mark.parametrize("name", sorted(registry.networks()))
def test_odd_sizes_are_taken_or_the_sizes_that_can_be_are_named(name: str) -> None:
    network = registry.find(name)
    entry = next(entry for entry in registry.catalogue() if entry.network == name)
    size = 2 * max(network.multiple, 16) + 1
    model = Model(name, entry.options)
    if network.multiple > 1:
        below = size // network.multiple * network.multiple
        with pytest.raises(UserError, match=rf"data.size={size}: .* such as {below} or {below + network.multiple}"):
            registry.build(model, groups=entry.groups, targets=1, size=size)
        return
    built = registry.build(model, groups=entry.groups, targets=1, size=size)
    lead = (1,) if network.example == "slice" else (1, entry.depth)
    channels = 2 if network.example == "series" else sum(entry.groups)
    images = jax.ShapeDtypeStruct((*lead, size, size, channels), jnp.float32)
    inputs = (images, jax.ShapeDtypeStruct(lead, jnp.bool_)) if network.example == "clip" else (images,)
    outputs, _ = jax.eval_shape(
        lambda key, *x: built.init_with_output({"params": key}, *x, train=False), jax.random.key(0), *inputs
    )
    assert outputs.logits.shape == ((1, size, size, 1) if network.example == "series" else (*lead, size, size, 1))


def test_a_mistyped_option_and_an_unknown_network_name_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean dme_net"):
        registry.build(Model("dme_nett"), groups=(4, 1), targets=1, size=32)
    with pytest.raises(UserError, match="model.temporl: dme_net has no such option. Did you mean temporal"):
        registry.build(Model("dme_net", {"temporl": True}), groups=(4, 1), targets=1, size=32)
    with pytest.raises(UserError, match="model.width=wide: a whole number"):
        registry.build(Model("dme_net", {"width": "wide"}), groups=(4, 1), targets=1, size=32)


STRANGE = ("-1", "0", "1", "1e9", "none", "[]", "[1,1,1,1]", "true", "x", "33", "series", '[["CT"]]')
DECIDING = ("data.size", "data.groups", "data.example", "parallel.microbatches", "model.name")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dme_isles18", "mdanet_isles18", "swin_unet_isles18"])
def test_a_value_makes_a_step_or_one_line(name: str) -> None:
    """Every option of the network and every field that shapes it, with values that nobody should give."""
    small = {"data.size": 32, "data.batch": 2, "model.width": 8}
    base = overrides.override(_loaded(name), small if name != "swin_unet_isles18" else {"data.batch": 2})
    module = registry.find(base.model.name).module
    given = ("groups", "heads", "size", "axis_name", "parent", "name", "scope")
    options = [f"model.{one}" for one in typing.get_type_hints(module) if one not in given]
    drawn = set()  # several values make the same network for the same data, and tracing it is what takes the time
    for path, value in itertools.product((*DECIDING, *options), STRANGE):
        try:
            strange = overrides.override(base, {path: value})
            network = apply.build(strange)
        except UserError as mistake:
            assert "\n" not in str(mistake) and path.partition(".")[0] in str(mistake)
            continue
        if (same := repr((network, strange.data))) in drawn:
            continue
        drawn.add(same)
        try:
            jax.eval_shape(functools.partial(apply.initialise, network, strange.data), jax.random.key(0))
        except UserError as mistake:
            assert "\n" not in str(mistake)


def test_catalogue_names_are_unique_and_their_networks_exist() -> None:
    names = [entry.name for entry in registry.catalogue()]
    assert len(set(names)) == len(names)
    assert {entry.network for entry in registry.catalogue()} == set(registry.networks())
