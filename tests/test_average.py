"""The running mean of the weights: the values that a hand finds, what predicts, and that a resumed run goes on."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_runs import small_experiment

from jaxstroke import sharding
from jaxstroke.errors import UserError
from jaxstroke.models import apply
from jaxstroke.runs.checkpoint import Checkpoints
from jaxstroke.training import program
from jaxstroke.training import state as states
from jaxstroke.training.program import Program
from jaxstroke.training.state import TrainState

KEEP = 0.15


@functools.cache
def built() -> Program:
    plain = {"data.batch": 2, "data.size": 16, "augment.probability": 0.0}
    experiment = small_experiment(**{"training.average": KEEP, **plain})
    return program.build(experiment, sharding.make_mesh(jax.devices()[:1]), steps_per_epoch=4)


def batch(seed: int) -> dict[str, np.ndarray]:
    data, rng = built().experiment.data, np.random.default_rng(seed)
    masks = (rng.uniform(size=(2, *apply.mask_shape(data))) < 0.1).astype(np.float32)
    return {
        "images": rng.normal(size=(2, *apply.example_shape(data))).astype(np.float32),
        "masks": masks,
        "distance": np.zeros_like(masks),
        "valid": np.ones(2, bool),
        "index": np.arange(2, dtype=np.uint32),
    }


def stepped(state: TrainState, number: int) -> TrainState:
    return built().train(state, sharding.to_devices(batch(number), built().mesh))[0]


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


def test_the_mean_by_hand() -> None:
    """Weights 1, 4, 9 after a mean of 0: kept is .1 at first, then 2 / 11 but .15 at most."""
    mean = np.float32(0)
    for step, weight in enumerate((1.0, 4.0, 9.0)):
        mean = states.moved(mean, np.float32(weight), np.int32(step), KEEP)
    first = 0.9 * 1.0
    second = 0.15 * first + 0.85 * 4.0
    assert float(mean) == pytest.approx(0.15 * second + 0.85 * 9.0, rel=1e-6)
    early = float(states.moved(np.float32(2), np.float32(4), np.int32(1), 0.999))
    assert early == pytest.approx(2 * 2 / 11 + 4 * 9 / 11)


@pytest.mark.slow
def test_a_training_keeps_it_predicts_with_it_and_goes_on_with_it(tmp_path: Path) -> None:
    state = built().first_state(0)
    expected = leaves(state.trained())
    for one, other in zip(leaves(state.average), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for number in range(2):
        state = stepped(state, number)
        kept = min(KEEP, (1 + number) / (10 + number))
        pairs = zip(expected, leaves(state.trained()), strict=True)
        expected = [kept * mean + (1 - kept) * new for mean, new in pairs]
    for mean, by_hand in zip(leaves(state.variables()), expected, strict=True):
        np.testing.assert_allclose(mean, by_hand, rtol=1e-5, atol=1e-7)
    apart = [np.abs(a - b).max() for a, b in zip(leaves(state.trained()), leaves(state.average), strict=True)]
    assert max(apart) > 1e-6, "the mean lags behind"
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(2, state.trees(), {"best_steps": {}})
    checkpoints.close()
    kept_weights = leaves(state.average)
    restored = Checkpoints(tmp_path / "checkpoints").restore_last(built().shapes.trees())
    assert restored is not None
    for one, other in zip(leaves(restored.trees["weights"]), kept_weights, strict=True):
        np.testing.assert_array_equal(one, other)  # what predicts and is exported
    again = stepped(TrainState.from_trees(restored.trees), 2)
    for one, other in zip(leaves(again), leaves(stepped(state, 2)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_it_a_state_is_as_it_was() -> None:
    experiment = small_experiment()
    assert experiment.training.average == 0.0
    shapes = program.build(experiment, sharding.make_mesh(), steps_per_epoch=4).shapes
    assert shapes.average is None and shapes.trees()["optimiser"].keys() == {"step", "opt_state"}
    assert shapes.variables() == {"params": shapes.params, "batch_stats": shapes.batch_stats}
    with pytest.raises(UserError, match=r"training\.average=1"):
        small_experiment(**{"training.average": 1})
