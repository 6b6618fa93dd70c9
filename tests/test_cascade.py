"""The cascade network: sizes, the six levels of multilevel refinement, and the synthetic map."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_weights

from jaxstroke.models import count, registry
from jaxstroke.models.cascade import CascadeNet, synthetic_map
from jaxstroke.models.nn.blocks import Conv
from jaxstroke.models.nn.resize import resize_bilinear

SMALL = functools.partial(CascadeNet, targets=1, width=4)
IMAGES = jax.random.normal(jax.random.key(1), (2, 64, 64, 5))
PLAIN = (False, False, False)  # refinement, attention, residual
GATED = (True, True, False)
RESIDUAL = (True, False, True)


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "millions", "gmac"),
    [
        ("cascade/plain", 37.747, 17.88),
        ("cascade/mr", 37.749, 17.88),
        ("cascade", 38.450, 18.40),
        ("cascade/stage2", 38.450, 18.41),
        ("cascade/residual", 40.549, 19.56),
    ],
)
def test_size_is_the_one_that_was_counted(name: str, millions: float, gmac: float) -> None:
    size = count.measure(next(entry for entry in registry.catalogue() if entry.name == name))
    assert size.parameters / 1e6 == pytest.approx(millions, abs=0.0006)
    assert size.macs / 1e9 == pytest.approx(gmac, abs=0.006)


@functools.cache
def judged(refinement: bool, attention: bool, residual: bool) -> Any:
    """Outputs, gradients of the mean squares of all levels, and what was sown, for `IMAGES`, as in use."""
    network = SMALL(refinement=refinement, attention=attention, residual=residual)
    variables = random_weights(network, IMAGES, train=False)

    @jax.jit
    def judge(params: dict) -> Any:
        def loss(params: dict) -> tuple[jax.Array, Any]:
            tree = {**variables, "params": params}
            outputs, state = network.apply(tree, IMAGES, train=False, mutable=["intermediates"])
            levels = outputs.side_logits or (outputs.logits,)
            return sum((jnp.mean(level**2) for level in levels), start=jnp.zeros(())), (outputs, state)

        return jax.grad(loss, has_aux=True)(params)

    gradients, (outputs, state) = judge(variables["params"])
    return outputs, gradients, state.get("intermediates", {})


@pytest.mark.slow
@pytest.mark.parametrize("configuration", [PLAIN, GATED, RESIDUAL])
def test_every_weight_has_a_gradient_in_every_configuration(configuration: tuple[bool, bool, bool]) -> None:
    refinement, attention, _ = configuration
    outputs, gradients, _ = judged(*configuration)
    assert jnp.isfinite(outputs.logits).all()
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert jnp.abs(gradient).max() > 0, f"{jax.tree_util.keystr(path)} takes no part"
    assert len(outputs.side_logits) == 6 * refinement
    assert ("synthetic" in outputs.features) == attention


# --- multilevel refinement ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_six_levels_at_full_size_coarsest_first_and_the_finest_is_the_answer() -> None:
    network, images = SMALL(targets=3), random(2, 2, 32, 64, 5)
    variables = random_weights(network, images, train=False)
    outputs = jax.eval_shape(functools.partial(network.apply, train=False), variables, images)
    assert [level.shape for level in outputs.side_logits] == [(2, 32, 64, 3)] * 6
    kernels = [variables["params"][f"side_head{level}"]["conv"]["conv"]["kernel"].shape[2] for level in (6, 5, 4, 3, 2)]
    assert kernels == [128, 64, 32, 16, 8]
    computed, *_ = judged(*GATED)
    np.testing.assert_array_equal(computed.side_logits[-1], computed.logits)


@pytest.mark.slow
def test_a_level_is_linear_between_the_pixels_of_its_own_grid() -> None:
    """At 64 pixels the bottleneck is 2 x 2: its level is flat to the first one's middle, then a straight line."""
    outputs, *_ = judged(*GATED)
    row = outputs.side_logits[0][0, 0, :, 0]
    np.testing.assert_allclose(row[:16], row[0], rtol=1e-5)
    steps = jnp.diff(row[16:48])
    assert jnp.abs(steps[0]) > 1e-5
    np.testing.assert_allclose(steps, steps[0], rtol=1e-2)


def test_interpolating_before_or_after_a_pointwise_convolution_is_the_same() -> None:
    """The paper interpolates first; the network convolves first, at a sixtieth of the cost."""
    x = random(3, 1, 4, 4, 8)
    conv = Conv(1, 1)
    params = {"conv": {"kernel": random(4, 1, 1, 8, 1), "bias": jnp.array([0.7])}}
    resize = functools.partial(resize_bilinear, size=(16, 16), align_corners=False)
    first = conv.apply({"params": params}, resize(x))
    second = resize(conv.apply({"params": params}, x))
    np.testing.assert_allclose(first, second, atol=1e-5)


# --- synthetic map -----------------------------------------------------------------------------------------------


def test_synthetic_map_by_hand() -> None:
    """Means over channels 1, 2, 3, 5 become 0, 1/4, 1/2, 1; a constant slice becomes zeros."""
    slice_ = jnp.array([[[0.0, 2.0], [1.0, 3.0]], [[3.0, 3.0], [10.0, 0.0]]])
    got = synthetic_map(jnp.stack([slice_, jnp.full((2, 2, 2), 4.0)]))
    np.testing.assert_allclose(got[0, ..., 0], [[0.0, 0.25], [0.5, 1.0]])
    np.testing.assert_array_equal(got[1], jnp.zeros((2, 2, 1)))


@pytest.mark.slow
def test_synthetic_map_is_of_the_finest_gate_and_carries_no_gradient() -> None:
    outputs, _, sown = judged(*GATED)
    synthetic = outputs.features["synthetic"]
    assert synthetic.shape == (2, 64, 64, 1) and synthetic.dtype == jnp.float32
    np.testing.assert_allclose(synthetic.min(axis=(1, 2, 3)), 0.0)
    np.testing.assert_allclose(synthetic.max(axis=(1, 2, 3)), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(sown["synthetic"][0], synthetic)
    assert sown["decoder1"]["gate"]["attention"][0].shape == (2, 64, 64, 1)
    gradient = jax.grad(lambda similarity: synthetic_map(similarity).sum())(random(3, 1, 4, 4, 2))
    assert jnp.all(gradient == 0)


@pytest.mark.slow
def test_a_second_stage_takes_the_images_and_the_map() -> None:
    first, *_ = judged(*GATED)
    stacked = jnp.concatenate([IMAGES, first.features["synthetic"]], axis=-1)
    variables = random_weights(SMALL(), stacked, train=False)
    assert variables["params"]["encoder"]["level1"]["block1"]["conv"]["conv"]["kernel"].shape[2] == 6


# --- training and half precision ---------------------------------------------------------------------------------


def test_training_gives_finite_logits_and_moves_all_statistics() -> None:
    network = SMALL()
    variables = random_weights(network, IMAGES, train=False)
    outputs, changed = jax.jit(functools.partial(network.apply, train=True, mutable=["batch_stats"]))(variables, IMAGES)
    assert jnp.isfinite(outputs.logits).all()
    pairs = zip(jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(changed["batch_stats"]), strict=True)
    assert all((old != new).any() for old, new in pairs)


def test_half_precision_ends_in_float32_logits() -> None:
    network = SMALL(dtype="bfloat16")
    variables = random_weights(network, IMAGES, train=False)
    half = jax.jit(functools.partial(network.apply, train=False))(variables, IMAGES)
    assert all(level.dtype == jnp.float32 for level in half.side_logits)
    assert half.features["synthetic"].dtype == jnp.float32
    exact, *_ = judged(*GATED)
    assert jnp.abs(half.logits - exact.logits).max() < 0.05 * jnp.abs(exact.logits - exact.logits.mean()).max()
