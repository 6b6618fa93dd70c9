"""Each loss against numbers worked out by hand, and what must not change it: padding, width of arithmetic, jit."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxstroke import losses
from jaxstroke.errors import UserError
from jaxstroke.experiment import Loss
from jaxstroke.models.outputs import Outputs

ONE = jnp.ones((1,), bool)
TERMS = {"soft_dice": 1.0, "cross_entropy": 1.0, "boundary": 0.5, "focal": 2.0, "multilevel": 1.0, "similarity": 0.25}
SPEC = Loss(TERMS, lesion_weight=3.0, background_weight=1.0, focal_alpha=0.25, level_weights=(0.25, 0.75))


@jax.jit
def _jitted(outputs, batch):
    return losses.total_loss(outputs, batch, SPEC)


def _logit(*probabilities):
    p = np.array(probabilities)
    return jnp.asarray(np.log(p / (1 - p)), jnp.float32).reshape(1, 1, -1, 1)


def _mask(*values):
    return jnp.asarray(values, jnp.float32).reshape(1, 1, -1, 1)


def _example(lead=(3,), targets=1, seed=0, dtype=jnp.float32):
    """Outputs and a batch of random numbers, with every feature that some term needs."""
    random = np.random.default_rng(seed)
    shape = (*lead, 6, 5, targets)
    maps = (*lead, 6, 5, 4)

    def normal(shape):
        return jnp.asarray(random.normal(size=shape), dtype)

    logits = normal(shape)
    outputs = Outputs(logits, (normal(shape), logits), {"group1": normal(maps), "group2": normal(maps)})
    batch = {
        "masks": jnp.asarray(random.random(shape) < 0.3, jnp.float32),
        "distance": jnp.asarray(random.normal(size=shape), jnp.float32),
        "valid": jnp.ones(lead, bool),
    }
    return outputs, batch


# --- by hand -----------------------------------------------------------------------------------------------------


def test_soft_dice_by_hand():
    # 2 (.9 + .2) + 1 over (.9 + .2 + .4) + 2 + 1
    loss = losses.soft_dice_loss(_logit(0.9, 0.2, 0.4), _mask(1, 1, 0), ONE)
    np.testing.assert_allclose(loss, 1 - 3.2 / 4.5, rtol=1e-6)


def test_soft_dice_is_a_mean_over_examples_and_targets_not_over_their_pooled_pixels():
    logits, masks = _logit(0.9, 0.2), _mask(1, 0)
    empty = _mask(0, 0)
    alone = [float(losses.soft_dice_loss(logits, m, ONE)) for m in (masks, empty)]
    examples = losses.soft_dice_loss(jnp.tile(logits, (2, 1, 1, 1)), jnp.concatenate([masks, empty]), jnp.ones(2, bool))
    targets = losses.soft_dice_loss(jnp.tile(logits, (1, 1, 1, 2)), jnp.concatenate([masks, empty], axis=-1), ONE)
    np.testing.assert_allclose([examples, targets], [sum(alone) / 2] * 2, rtol=1e-6)


def test_soft_dice_of_a_clip_pools_its_slices():
    logits, masks = _logit(0.9, 0.2, 0.4, 0.7), _mask(1, 1, 0, 0)
    clip = [x.reshape(1, 2, 1, 2, 1) for x in (logits, masks)]
    np.testing.assert_allclose(
        losses.soft_dice_loss(*clip, jnp.ones((1, 2), bool)), losses.soft_dice_loss(logits, masks, ONE), rtol=1e-6
    )


@pytest.mark.parametrize("mask, logit, expected", [(0.0, -40.0, 0.0), (1.0, 40.0, 0.0), (1.0, -40.0, 16 / 17)])
def test_soft_dice_of_empty_and_full_masks(mask, logit, expected):
    masks, logits = jnp.full((1, 4, 4, 1), mask), jnp.full((1, 4, 4, 1), logit)
    loss, gradient = jax.value_and_grad(losses.soft_dice_loss)(logits, masks, ONE)
    np.testing.assert_allclose(loss, expected, atol=1e-6)
    assert np.isfinite(gradient).all()


def test_cross_entropy_by_hand():
    p, y = (0.9, 0.2, 0.4), (1, 1, 0)
    plain = -(math.log(0.9) + math.log(0.2) + math.log(0.6)) / 3
    weighted = -(0.7 * math.log(0.9) + 0.7 * math.log(0.2) + 0.3 * math.log(0.6)) / 3
    np.testing.assert_allclose(losses.binary_cross_entropy(_logit(*p), _mask(*y), ONE), plain, rtol=1e-6)
    loss = losses.binary_cross_entropy(_logit(*p), _mask(*y), ONE, lesion_weight=0.7, background_weight=0.3)
    np.testing.assert_allclose(loss, weighted, rtol=1e-6)


def test_focal_by_hand_is_a_sum_over_the_modalities():
    one = -(3 * 0.1**2 * math.log(0.9) + 0.4**2 * math.log(0.6)) / 2  # p .9 on lesion, p .4 beside it
    two = -(0.5**2 * math.log(0.5) + 0.5**2 * math.log(0.5)) / 2  # an empty modality at p = .5
    logits = jnp.concatenate([_logit(0.9, 0.4), _logit(0.5, 0.5)], axis=-1)
    masks = jnp.concatenate([_mask(1, 0), _mask(0, 0)], axis=-1)
    for alpha, factor in ((None, 1.0), (0.25, 0.25)):
        loss = losses.focal_loss(logits, masks, ONE, gamma=2.0, alpha=alpha, lesion_weight=3.0)
        np.testing.assert_allclose(loss, factor * (one + two), rtol=1e-6)


def test_focal_without_focus_is_the_cross_entropy():
    outputs, batch = _example()
    classes = {"lesion_weight": 3.0, "background_weight": 0.5}
    focal = losses.focal_loss(outputs.logits, batch["masks"], batch["valid"], gamma=0.0, **classes)
    plain = losses.binary_cross_entropy(outputs.logits, batch["masks"], batch["valid"], **classes)
    np.testing.assert_allclose(focal, plain, rtol=1e-6)


def test_multilevel_by_hand():
    levels = [_logit(0.5, 0.5), _logit(0.8, 0.1)]
    coarse = -(0.7 * math.log(0.5) + 0.3 * math.log(0.5)) / 2
    fine = -(0.7 * math.log(0.8) + 0.3 * math.log(0.9)) / 2
    loss = losses.multilevel_cross_entropy(
        levels, _mask(1, 0), ONE, level_weights=(0.03, 0.5), lesion_weight=0.7, background_weight=0.3
    )
    np.testing.assert_allclose(loss, 0.03 * coarse + 0.5 * fine, rtol=1e-6)


def test_similarity_by_hand_ignores_lesion_pixels():
    # Three pixels of two features; the last pixel is lesion and would turn both vectors.
    first = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 900.0]]).reshape(1, 1, 3, 2)
    second = jnp.array([[3.0, 0.0], [0.0, 3.0], [-70.0, 0.0]]).reshape(1, 1, 3, 2)
    loss = losses.masked_similarity_loss(first, second, _mask(0, 0, 1), ONE)
    np.testing.assert_allclose(loss, 1 - 1 / math.sqrt(2), rtol=1e-6)
    for factor, expected in ((5.0, 0.0), (-5.0, 2.0)):
        loss = losses.masked_similarity_loss(first, factor * first, _mask(0, 0, 1), ONE)
        np.testing.assert_allclose(loss, expected, atol=1e-6)


@pytest.mark.parametrize("mask, feature", [(0.0, 0.0), (1.0, 1.0)])
def test_similarity_is_safe_where_a_vector_is_zero(mask, feature):
    masks, maps = jnp.full((1, 2, 2, 1), mask), jnp.full((1, 2, 2, 3), feature)
    loss, gradient = jax.value_and_grad(losses.masked_similarity_loss)(maps, maps, masks, ONE)
    assert float(loss) == 1.0
    assert np.isfinite(gradient).all()


def test_boundary_by_hand_and_zero_where_there_is_no_lesion():
    distance = _mask(-1.0, 0.0, 2.0)
    np.testing.assert_allclose(losses.boundary_loss(_logit(0.9, 0.8, 0.25), distance, ONE), (-0.9 + 0.5) / 3, rtol=1e-6)
    assert float(losses.boundary_loss(_logit(0.9, 0.8, 0.25), jnp.zeros_like(distance), ONE)) == 0.0


# --- arithmetic --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("logit", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("mask", [0.0, 1.0])
def test_every_loss_and_gradient_is_finite_at_any_logit(logit, mask):
    shape = (1, 2, 2, 1)
    batch = {"masks": jnp.full(shape, mask), "distance": jnp.ones(shape), "valid": ONE}

    def total(logits):
        outputs = Outputs(logits, (logits, logits), {"group1": logits, "group2": logits})
        return losses.total_loss(outputs, batch, SPEC)[0]

    loss, gradient = jax.value_and_grad(total)(jnp.full(shape, logit))
    assert np.isfinite(loss) and np.isfinite(gradient).all()


def test_losses_are_computed_in_float32_whatever_comes():
    outputs, batch = _example(dtype=jnp.bfloat16)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), outputs)
    narrow_loss, narrow = losses.total_loss(outputs, batch, SPEC)
    wide_loss, _ = losses.total_loss(wide, batch, SPEC)
    assert narrow_loss.dtype == jnp.float32 and all(v.dtype == jnp.float32 for v in narrow.values())
    np.testing.assert_allclose(narrow_loss, wide_loss, rtol=1e-6)


@pytest.mark.parametrize("term", TERMS)
def test_gradients_agree_with_finite_differences(term):
    outputs, batch = _example(lead=(2,))
    spec = Loss({term: 1.0}, lesion_weight=3.0, focal_alpha=0.25, level_weights=(0.25, 0.75))
    check_grads(
        lambda logits, features: losses.total_loss(Outputs(logits, (logits, 2 * logits), features), batch, spec)[0],
        (outputs.logits, dict(outputs.features)),
        order=1, modes=["rev"], atol=2e-3, rtol=2e-2, eps=1e-2,
    )  # fmt: skip


# --- what must not matter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead, targets", [((2,), 2), ((2, 3), 1)])
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_padding_changes_nothing(seed, lead, targets):
    outputs, batch = _example(lead, targets, seed)
    axis = len(lead) - 1  # whole examples, or slices of a clip
    padding = 2

    def pad(array, value):
        width = [(0, padding if i == axis else 0) for i in range(array.ndim)]
        return jnp.pad(array, width, constant_values=value)

    padded_outputs = jax.tree.map(lambda x: pad(x, 7.0), outputs)
    padded_batch = {"masks": pad(batch["masks"], 1.0), "distance": pad(batch["distance"], -9.0),
                    "valid": pad(batch["valid"], False)}  # fmt: skip
    _, values = _jitted(outputs, batch)
    _, padded = _jitted(padded_outputs, padded_batch)
    for term in TERMS:
        np.testing.assert_allclose(padded[term], values[term], rtol=2e-5, atol=1e-6, err_msg=term)


def test_volumes_take_one_validity_an_example():
    outputs, batch = _example((2, 4))
    halves = [
        _jitted(
            jax.tree.map(lambda x, i=i: x[i : i + 1], outputs),
            {k: v[i : i + 1] for k, v in batch.items()} | {"valid": ONE},
        )[1]
        for i in range(2)
    ]
    _, both = _jitted(outputs, batch | {"valid": jnp.ones(2, bool)})
    for term in TERMS:
        np.testing.assert_allclose(both[term], (halves[0][term] + halves[1][term]) / 2, rtol=1e-5, atol=1e-6)


def test_a_batch_of_padding_alone_is_zero_with_a_zero_gradient():
    outputs, batch = _example()
    batch["valid"] = jnp.zeros(3, bool)
    loss, gradient = jax.value_and_grad(lambda o: _jitted(o, batch)[0])(outputs)
    assert float(loss) == 0.0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_total_is_the_weighted_sum_and_jit_changes_nothing():
    outputs, batch = _example(targets=2)
    loss, values = losses.total_loss(outputs, batch, SPEC)
    assert list(values) == list(TERMS)
    np.testing.assert_allclose(loss, sum(TERMS[t] * float(values[t]) for t in TERMS), rtol=1e-6)
    jitted, jitted_values = jax.jit(lambda o, b: losses.total_loss(o, b, SPEC))(outputs, batch)
    np.testing.assert_allclose(jitted, loss, rtol=1e-5)
    assert all(jitted_values[t].shape == () for t in TERMS)


# --- mistakes ----------------------------------------------------------------------------------------------------


def test_mistakes_are_said_plainly():
    outputs, batch = _example()
    with pytest.raises(UserError, match="no loss named soft_dise. Did you mean soft_dice"):
        losses.total_loss(outputs, batch, Loss({"soft_dise": 1.0}))
    with pytest.raises(UserError, match="2 levels of logits for 1 weights"):
        losses.total_loss(outputs, batch, Loss({"multilevel": 1.0}, level_weights=(1.0,)))
    with pytest.raises(UserError, match="similarity compares .* two modality groups"):
        losses.total_loss(Outputs(outputs.logits), batch, Loss({"similarity": 1.0}))
