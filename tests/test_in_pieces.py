"""Prediction in pieces is prediction at once, and random changes act in the training step."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from random_weights import random_weights

from jaxstroke.augment import augment
from jaxstroke.experiment import Augment, catalogue, overrides
from jaxstroke.inference.predictor import Predictor
from jaxstroke.models import apply
from jaxstroke.models.nn.blocks import ConvNormAct, DoubleConv, LogitHead
from jaxstroke.models.outputs import Outputs
from jaxstroke.training import state as states
from jaxstroke.training import step as steps

SIZE, SLICES = 32, 5


@pytest.mark.slow
def test_a_long_study_in_pieces_is_the_study_at_once() -> None:
    """DME-Net carries its memory from piece to piece: two slices at a time and five at once agree."""
    small = {"data.size": SIZE, "data.depth": 2, "model.width": 4}
    short = overrides.override(catalogue.load("dme_isles18", scale="small"), small)
    whole = overrides.override(short, {"data.depth": SLICES})
    images = np.random.default_rng(0).normal(size=(SLICES, SIZE, SIZE, 5)).astype(np.float32)
    network = apply.build(short)
    variables = random_weights(network, images[None, :1], np.ones((1, 1), bool), train=False)
    in_pieces, at_once = (Predictor(one, variables).prepared(images).probabilities for one in (short, whole))
    np.testing.assert_allclose(in_pieces, at_once, atol=1e-5)
    alone = Predictor(short, variables).prepared(images[2:4]).probabilities
    assert np.abs(alone - at_once[2:4]).max() > 1e-3, "what was seen before counts, or nothing is shown here"


def test_running_statistics_move_by_a_tenth_in_a_step() -> None:
    """The mean of what a block's first convolution gives is 3, and was 0: PyTorch's momentum of 0.1."""
    block, x = DoubleConv(2), np.ones((1, 4, 4, 1), np.float32)
    variables = random_weights(block, x, train=False)
    first = variables["params"]["block1"]["conv"]["conv"]
    first["kernel"], first["bias"] = np.zeros_like(first["kernel"]), np.full_like(first["bias"], 3)
    start = jax.tree.map(np.zeros_like, variables["batch_stats"])
    _, changed = block.apply({**variables, "batch_stats": start}, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(changed["batch_stats"]["block1"]["norm"]["norm"]["mean"], 0.3, rtol=1e-6)


class OneBlock(nn.Module):
    """The least network that a step can train."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        return Outputs(LogitHead(1)(ConvNormAct(4)(images, train=train)))


@pytest.mark.slow
def test_the_step_trains_on_the_changed_batch() -> None:
    """Its figures are those of a step without changes on the batch that `augment` gives for the step's key."""
    plain = overrides.override(catalogue.load("unet_isles22", scale="small"), {"data.size": 16, "data.batch": 4})
    plain = dataclasses.replace(plain, augment=Augment(probability=0.0))
    spec = Augment(probability=1.0, rotate_degrees=90.0, scale=(0.8, 1.2), brightness=0.5)
    changed = dataclasses.replace(plain, augment=spec)
    draw = np.random.default_rng(1)
    masks = (draw.random((4, 16, 16, 1)) < 0.2).astype(np.float32)
    batch = {
        "images": draw.normal(size=(4, 16, 16, 2)).astype(np.float32) + masks,
        "masks": masks,
        "distance": np.zeros_like(masks),
        "index": np.arange(4),
        "valid": np.ones(4, bool),
    }
    network, optimiser = OneBlock(), optax.sgd(0.1)
    state = states.create(network, optimiser, plain.data, seed=0)
    key, _ = jax.random.split(steps.step_key(plain.training.seed, state.step))
    by_hand = augment(key, batch, spec)
    as_it_is, with_changes = (jax.jit(steps.train_step(one, network, optimiser)) for one in (plain, changed))
    expected, got, untouched = as_it_is(state, by_hand)[1], with_changes(state, batch)[1], as_it_is(state, batch)[1]
    for name in ("loss", "gradient_norm"):
        assert float(got[name]) == pytest.approx(float(expected[name]), rel=1e-5)
        assert abs(float(got[name]) / float(untouched[name]) - 1) > 1e-4
    after = with_changes(state, batch)[0]
    assert int(after.step) == 1
    again = with_changes(dataclasses.replace(state, step=after.step), batch)[1]
    assert abs(float(again["loss"]) / float(got["loss"]) - 1) > 1e-4, "the next step changes the same batch otherwise"
    other = states.create(network, optimiser, plain.data, seed=1)
    kernels = [one.params["ConvNormAct_0"]["conv"]["conv"]["kernel"] for one in (state, other)]
    assert (np.asarray(kernels[0]) != kernels[1]).any(), "another seed draws other weights"
