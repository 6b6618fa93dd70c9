"""Learning rates at their corners, and the optimisers against closed forms and PyTorch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstroke.errors import UserError
from jaxstroke.experiment import Optimiser, Schedule, catalogue, overrides
from jaxstroke.schedules import build_optimiser, clip_by_variable_norm, learning_rate


def _rate(schedule, *, eta=1e-3, steps=10, epochs=100):
    return learning_rate(schedule, Optimiser(learning_rate=eta), steps_per_epoch=steps, epochs=epochs)


def test_constant():
    rate = _rate(Schedule("constant"))
    assert [float(rate(step)) for step in (0, 1, 10**6)] == [1e-3] * 3


@pytest.mark.parametrize("steps", [7, 10, 2500])
def test_halving_changes_exactly_at_the_boundary(steps):
    rate = _rate(Schedule("halving", half_every_epochs=40), eta=1e-4, steps=steps, epochs=200)
    for halvings in range(5):
        first = halvings * 40 * steps
        expected = np.float32(1e-4) / 2**halvings
        assert float(rate(first)) == expected
        assert float(rate(first + 40 * steps - 1)) == expected


def test_warmup_cosine_at_its_corners():
    eta, steps, warmup, epochs = 5e-3, 4, 90, 300
    rate = _rate(Schedule("warmup_cosine", warmup_epochs=warmup), eta=eta, steps=steps, epochs=epochs)
    peak, end = warmup * steps, epochs * steps
    assert float(rate(0)) == 0.0
    np.testing.assert_allclose(rate(1), eta / peak, rtol=1e-5)  # per step, not per epoch
    np.testing.assert_allclose(rate(peak // 2), eta / 2, rtol=1e-5)
    np.testing.assert_allclose(rate(peak), eta, rtol=1e-6)
    np.testing.assert_allclose(rate((peak + end) // 2), eta / 2, rtol=1e-5)
    step = peak + 100
    np.testing.assert_allclose(rate(step), eta / 2 * (1 + math.cos(math.pi * 100 / (end - peak))), rtol=1e-5)
    np.testing.assert_allclose(rate(end), 0.0, atol=1e-10)
    np.testing.assert_allclose(rate(end + 50), 0.0, atol=1e-10)


def test_cosine_without_warmup_starts_at_the_full_rate():
    rate = _rate(Schedule("warmup_cosine", warmup_epochs=0))
    np.testing.assert_allclose([float(rate(s)) for s in (0, 500, 1000)], [1e-3, 5e-4, 0.0], atol=1e-9)


@pytest.mark.parametrize("schedule", [
    Schedule("constant"), Schedule("halving", 3), Schedule("warmup_cosine", warmup_epochs=3)
])  # fmt: skip
def test_rates_are_the_same_under_jit(schedule):
    rate = _rate(schedule)
    steps = jnp.arange(0, 1000, 37)
    jitted = jax.jit(rate)
    np.testing.assert_allclose([jitted(s) for s in steps], [rate(int(s)) for s in steps], rtol=1e-6, atol=1e-10)


def test_mistakes_name_the_field():
    with pytest.raises(UserError, match="schedule.half_every_epochs=0"):
        Schedule("halving", half_every_epochs=0)
    with pytest.raises(UserError, match="schedule.name=cosine.*warmup_cosine"):
        Schedule("cosine")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="optimiser.name=adamW.*adamw"):
        Optimiser("adamW")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="clip_variable_norm=0"):
        Optimiser(clip_variable_norm=0.0)
    with pytest.raises(UserError, match=r"schedule.warmup_epochs=300: training lasts 300 epochs .* 0 to 299"):
        overrides.override(catalogue.load("crossdomain_v1"), {"schedule.warmup_epochs": 300})


def test_each_variable_is_clipped_on_its_own():
    gradients = {"long": jnp.array([[3.0], [4.0]]), "short": jnp.array([0.3, 0.4]), "zero": jnp.zeros(3)}
    clipped, _ = clip_by_variable_norm(1.0).update(gradients, optax.EmptyState())
    np.testing.assert_allclose(clipped["long"], [[0.6], [0.8]], rtol=1e-6)
    np.testing.assert_array_equal(clipped["short"], gradients["short"])
    np.testing.assert_array_equal(clipped["zero"], 0.0)


def test_clipping_comes_before_adam():
    # Adam's direction does not feel a constant scale, but it does feel one that changes from step to step.
    optimiser = build_optimiser(Optimiser(clip_variable_norm=1.0), optax.constant_schedule(0.1))
    plain = build_optimiser(Optimiser(), optax.constant_schedule(0.1))
    np.testing.assert_allclose(
        _descend(optimiser, [[1.0], [50.0]], [0.0]), _descend(plain, [[1.0], [1.0]], [0.0]), rtol=1e-6
    )


def test_decay_that_is_not_times_the_learning_rate_by_hand():
    decay, rates = 0.01, [0.1, 0.05]
    optimiser = build_optimiser(
        Optimiser("adamw_unscaled", weight_decay=decay), lambda count: jnp.where(count == 0, *rates)
    )
    gradients = [3.0, -1.0]
    mean = square = 0.0
    weight = 2.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        direction = (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
        weight = weight - rate * direction - decay * weight
    np.testing.assert_allclose(_descend(optimiser, [[g] for g in gradients], [2.0]), [weight], rtol=1e-5)


def test_unscaled_decay_acts_at_learning_rate_zero_and_adamw_does_not():
    for name, expected in (("adamw_unscaled", 0.99), ("adamw", 1.0), ("adam", 1.0)):
        optimiser = build_optimiser(Optimiser(name, weight_decay=0.01), optax.constant_schedule(0.0))
        np.testing.assert_allclose(_descend(optimiser, [[5.0]], [1.0]), [expected], rtol=1e-6)


@pytest.mark.parametrize("name, decay", [("adam", 0.0), ("adam", 0.1), ("adamw", 0.1)])
def test_adam_and_adamw_are_those_of_torch(name, decay):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed")
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(4, 3)), random.normal(size=(20, 4, 3))
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    oracle = kind([weight], lr=0.02, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float32)
        oracle.step()
    ours = build_optimiser(Optimiser(name, weight_decay=decay), optax.constant_schedule(0.02))
    np.testing.assert_allclose(_descend(ours, gradients, start), weight.detach().numpy(), rtol=1e-4, atol=1e-6)


def _descend(optimiser, gradients, start):
    weights = jnp.asarray(start, jnp.float32)
    state = optimiser.init(weights)
    for gradient in gradients:
        updates, state = optimiser.update(jnp.asarray(gradient, jnp.float32), state, weights)
        weights = optax.apply_updates(weights, updates)
    return weights
