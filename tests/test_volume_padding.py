"""A study with fewer slices than a volume: what is padded to it changes nothing, in training and in prediction."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstroke import losses
from jaxstroke.experiment import Data, Experiment, Loss, Model
from jaxstroke.inference.predictor import Predictor
from jaxstroke.models import apply
from jaxstroke.models.nn.norm import BatchNorm

EXPERIMENT = Experiment(
    "volumes",
    "",
    "",
    Data("isles2018", (("CBF", "Tmax"),), example="volume", size=16, depth=4, batch=2),
    Model("unet3d", {"width": 2}),
    Loss({"soft_dice": 1.0, "boundary": 0.1}),
)
LOSSES = Loss({"soft_dice": 1.0, "cross_entropy": 1.0, "boundary": 1.0, "focal": 1.0})


def network(**fields: Any) -> Any:
    return apply.build(EXPERIMENT, **fields)


@functools.cache
def weights() -> Any:
    drawn = jax.jit(lambda key: apply.initialise(network(), EXPERIMENT.data, key))(jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), drawn)


def batch(slices: int, depth: int, padding: float = 0.0) -> dict[str, jax.Array]:
    """Two studies, the first of `slices` slices with anything behind them, the second whole."""
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 4, 16, 16, 2)).astype(np.float32)
    masks = (random.random((2, 4, 16, 16, 1)) < 0.3).astype(np.float32)
    distance = random.normal(size=masks.shape).astype(np.float32)
    images[0, slices:] = masks[0, slices:] = distance[0, slices:] = padding
    valid = np.arange(4)[None] < np.array([[slices], [4]])
    cut = {"images": images, "masks": masks, "distance": distance, "valid": valid}
    return {name: jnp.asarray(value[:, :depth]) for name, value in cut.items()}


@functools.partial(jax.jit, static_argnums=0)
def _forward(net: Any, given: Any, one: dict[str, jax.Array]) -> Any:
    return apply.train_forward(net, given, one, EXPERIMENT.data, jax.random.key(0))


def trained(one: dict[str, jax.Array], net: Any = None) -> Any:
    return _forward(net or network(), weights(), one)


@pytest.mark.slow
def test_what_is_in_the_padding_changes_neither_answer_nor_statistics_nor_loss() -> None:
    found = []
    for padding in (0.0, 9.0):
        one = batch(2, 4, padding)
        outputs, statistics = trained(one)
        total, terms = losses.total_loss(outputs, one, LOSSES)
        assert np.isfinite(total)
        found.append((outputs.logits[0, :2], outputs.logits[1], statistics, terms))
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.slow
def test_a_padded_study_is_what_it_is_without_padding() -> None:
    """Both studies of two slices: once as they are, once padded to four; losses, gradients and statistics agree."""

    drawn = weights()

    def loss_of(params: Any, one: dict[str, jax.Array]) -> Any:
        variables = {**drawn, "params": params}
        outputs, statistics = apply.train_forward(network(), variables, one, EXPERIMENT.data, jax.random.key(0))
        total, terms = losses.total_loss(outputs, one, LOSSES)
        return total, (outputs.logits[:, :2], terms, statistics)

    whole = batch(2, 2)
    padded = {name: jnp.concatenate([value, jnp.zeros_like(value)], axis=1) for name, value in whole.items()}
    assert not padded["valid"][:, 2:].any() and whole["valid"].all()
    gradient = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    short, long = (gradient(drawn["params"], one) for one in (whole, padded))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5), long, short)


@pytest.mark.slow
def test_a_study_of_two_slices_is_predicted_as_itself() -> None:
    predictor = Predictor(EXPERIMENT, weights())
    one = np.asarray(batch(2, 2)["images"])[1]
    answer = jax.jit(lambda given, x: network().apply(given, x, train=False).logits)(weights(), one[None])
    expected = jax.nn.sigmoid(answer)[0]
    np.testing.assert_allclose(predictor.prepared(one).probabilities, expected, atol=1e-6)


def test_statistics_by_hand() -> None:
    x = jnp.asarray([[1.0, 3.0], [5.0, 99.0]]).reshape(2, 2, 1, 1, 1)  # the last slice of the second is padding
    valid = jnp.asarray([[True, True], [True, False]])
    norm = BatchNorm(momentum=0.9, epsilon=0.0)
    y, changed = norm.apply({"params": {"norm": {"scale": jnp.ones(1), "bias": jnp.zeros(1)}},
                             "batch_stats": {"norm": {"mean": jnp.zeros(1), "var": jnp.ones(1)}}},
                            x, valid, train=True, mutable=["batch_stats"])  # fmt: skip
    kept = changed["batch_stats"]["norm"]
    np.testing.assert_allclose(kept["mean"], [0.1 * 3], rtol=1e-6)
    np.testing.assert_allclose(kept["var"], [0.9 + 0.1 * 8 / 3], rtol=1e-6)
    np.testing.assert_allclose(y.ravel()[:3], np.array([-2, 0, 2]) / np.sqrt(8 / 3), rtol=1e-5)


@pytest.mark.slow
def test_devices_with_unequal_shares_of_slices_weigh_by_slices() -> None:
    if jax.device_count() < 2:
        pytest.skip("one device")
    one = batch(1, 4)
    expected, _ = trained(one)
    apart = jax.tree.map(lambda value: value[:, None], one)
    answer = jax.pmap(
        lambda rows: trained(rows, network(axis_name="data"))[0].logits, axis_name="data", devices=jax.devices()[:2]
    )(apart)
    np.testing.assert_allclose(answer[:, 0][one["valid"]], expected.logits[one["valid"]], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("term", LOSSES.terms)
def test_losses_of_volumes_by_slices(term: str) -> None:
    """The padded half of a volume counts as little as if it were not there; it used to halve the mean."""
    one = batch(2, 4)
    outputs, _ = trained(one)
    spec = dataclasses.replace(LOSSES, terms={term: 1.0})
    _, both = losses.total_loss(outputs, one, spec)
    loss = losses.TERMS[term]
    parts = [
        loss(jax.tree.map(lambda x, row=row, slices=slices: x[row : row + 1, :slices], outputs),
             {name: value[row : row + 1, :slices] for name, value in one.items()}, spec)
        for row, slices in ((0, 2), (1, 4))
    ]  # fmt: skip
    shares = (1 / 2, 1 / 2) if term == "soft_dice" else (2 / 6, 4 / 6)  # a study each, or a pixel each
    np.testing.assert_allclose(both[term], sum(w * float(p) for w, p in zip(shares, parts, strict=True)), rtol=1e-5)
