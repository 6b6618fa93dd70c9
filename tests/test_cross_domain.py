"""The cross-domain network: sizes of every version, which modality reaches what, and the additive gate by hand."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_weights

from jaxstroke.errors import UserError
from jaxstroke.models import count, registry
from jaxstroke.models.cross_domain import CrossDomainNet
from jaxstroke.models.nn.attention import AdditiveGate
from jaxstroke.models.nn.gated_unet import Block, Style

DUAL = functools.partial(CrossDomainNet, groups=(1, 1), targets=2, width=4)
ALONE = functools.partial(CrossDomainNet, groups=(1,), targets=1, version="unimodal", width=4)
VERSIONS = ("unimodal", "v1", "v2", "v3")


def small(version: str, **options: object) -> CrossDomainNet:
    return ALONE(**options) if version == "unimodal" else DUAL(version=version, **options)


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


# --- size --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "millions", "gmac"),
    [
        ("unimodal", 26.12, 19.60),
        ("v1", 57.48, 43.30),
        ("v2", 52.24, 39.19),
        ("v2_joint", 57.48, 43.30),
        ("v3", 52.59, 40.02),
        ("v3_joint", 57.83, 44.13),
        ("unimodal_literal", 40.55, 19.49),
        ("v1_literal", 91.58, 41.04),
        ("v2_literal", 91.58, 41.04),
        ("v3_literal", 92.98, 42.08),
    ],
)
def test_size_is_the_one_that_was_counted(name: str, millions: float, gmac: float) -> None:
    entry = next(entry for entry in registry.catalogue() if entry.name == f"cross_domain/{name}")
    size = count.measure(entry)
    assert size.parameters / 1e6 == pytest.approx(millions, abs=0.006)
    assert size.macs / 1e9 == pytest.approx(gmac, abs=0.006)


# --- parts -------------------------------------------------------------------------------------------------------


def test_additive_gate_by_hand() -> None:
    """One pixel: q = 1 and -3, k = 0.5 and 1, so the similarities are 1.5 and 0; score 2 * 1.5 - 2 = 1, 73 % open."""
    g, x = jnp.array([1.0, -3.0]).reshape(1, 1, 1, 2), jnp.array([0.5, 1.0]).reshape(1, 1, 1, 2)
    identity = {"conv": {"kernel": jnp.eye(2).reshape(1, 1, 2, 2), "bias": jnp.zeros(2)}}
    score = {"conv": {"kernel": jnp.array([2.0, 7.0]).reshape(1, 1, 2, 1), "bias": jnp.array([-2.0])}}
    params = {"query": identity, "key": identity, "score": score}
    gated = AdditiveGate(2).apply({"params": params}, g, x, train=False)
    np.testing.assert_allclose(gated.similarity.reshape(-1), [1.5, 0.0])
    opened = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(gated.attention.reshape(-1), [opened], rtol=1e-6)
    np.testing.assert_allclose(gated.features.reshape(-1), [0.5 * opened, opened], rtol=1e-6)


def test_additive_gate_with_normalisation_normalises_each_of_its_three_maps() -> None:
    g, x = random(1, 4, 5, 5, 6), random(2, 4, 5, 5, 4)
    gate = AdditiveGate(2, norm=True)
    variables = gate.init(jax.random.key(0), g, x, train=False)
    assert {"query_norm", "key_norm", "score_norm"} == variables["batch_stats"].keys()
    assert count.parameters(variables) == (6 * 2 + 2) + (4 * 2 + 2) + (2 + 1) + 2 * (2 + 2 + 1)
    gated, _ = gate.apply(variables, g, x, train=True, mutable=["batch_stats"])
    score = jnp.log(gated.attention / (1 - gated.attention))
    np.testing.assert_allclose([score.mean(), score.std()], [0.0, 1.0], atol=1e-3)


def test_a_residual_block_whose_convolutions_are_zero_gives_back_its_input() -> None:
    x = random(3, 1, 4, 4, 3)
    block = Block(3, Style(residual=True))
    variables = random_weights(block, x, train=False)
    silent = {**variables, "params": jax.tree.map(jnp.zeros_like, variables["params"])}
    np.testing.assert_array_equal(block.apply(silent, x, train=False), x)
    assert "shortcut" not in variables["params"], "equal widths need no projection"
    wider = random_weights(Block(5, Style(residual=True)), x, train=False)
    assert wider["params"]["shortcut"]["conv"]["kernel"].shape == (1, 1, 3, 5)


# --- the network as a whole --------------------------------------------------------------------------------------


def images_of(version: str) -> jax.Array:
    return random(4, 2, 32, 32, 1 if version == "unimodal" else 2)


@functools.cache
def weights(version: str) -> dict[str, Any]:
    return random_weights(small(version), images_of(version), gain=0.5, train=False)


@functools.cache
def judged(version: str) -> Any:
    """Compiled once: (variables, images) -> logits, gradients of a mean square, and what was sown, as in use."""
    network = small(version)

    def loss(params: dict, rest: dict, images: jax.Array) -> tuple[jax.Array, Any]:
        outputs, state = network.apply({**rest, "params": params}, images, train=False, mutable=["intermediates"])
        return jnp.mean(outputs.logits**2), (outputs.logits, state.get("intermediates", {}))

    @jax.jit
    def judge(variables: dict, images: jax.Array) -> Any:
        rest = {"batch_stats": variables["batch_stats"]}
        (_, (logits, sown)), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"], rest, images)
        return logits, gradients, sown

    return judge


@pytest.mark.slow
@pytest.mark.parametrize("version", ["unimodal", "v1", "v2"])  # V3 has the gates of V1 and those of V2
def test_every_weight_has_a_gradient(version: str) -> None:
    logits, gradients, _ = judged(version)(weights(version), images_of(version))
    assert logits.shape == (2, 32, 32, 1 if version == "unimodal" else 2) and jnp.isfinite(logits).all()
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert jnp.abs(gradient).max() > 0, f"{jax.tree_util.keystr(path)} takes no part"


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_each_modality_reaches_both_segmentations(version: str) -> None:
    images = images_of(version)
    before, *_ = judged(version)(weights(version), images)
    for channel in (0, 1):
        after, *_ = judged(version)(weights(version), images.at[..., channel].multiply(-1.0))
        assert (jnp.abs(after - before).max(axis=(0, 1, 2)) > 1e-5).all()


@pytest.mark.slow
def test_without_gates_and_joint_bottleneck_the_modalities_would_not_meet() -> None:
    """V2 decoders start each from its own bottleneck: with the gates held at one half, ADC never reaches DWI."""
    tree = dict(weights("v2")["params"])
    for name in tree:
        if name.startswith("exchange"):
            tree[name] = {**tree[name], "score": jax.tree.map(jnp.zeros_like, tree[name]["score"])}
    variables, images = {**weights("v2"), "params": tree}, images_of("v2")
    before, *_ = judged("v2")(variables, images)
    after, *_ = judged("v2")(variables, images.at[..., 0].multiply(-1.0))
    np.testing.assert_array_equal(after[..., 1], before[..., 1])
    assert jnp.abs(after[..., 0] - before[..., 0]).max() > 1e-4


@pytest.mark.slow
def test_joint_decoders_start_from_both_bottlenecks() -> None:
    kernels = {
        joint: random_weights(DUAL(version="v2", joint=joint), images_of("v2"), train=False)["params"]["decoder1"]
        for joint in (False, True)
    }
    widths = {
        joint: tree["level4"]["before"]["block1"]["conv"]["conv"]["kernel"].shape[2] for joint, tree in kernels.items()
    }
    assert widths == {False: 128, True: 256}


@pytest.mark.parametrize(
    ("version", "gates"),
    [
        ("unimodal", {"decoder1": 4}),
        ("v1", {"decoder1": 4, "decoder2": 4}),
        ("v2", {"exchange1": 4, "exchange2": 4}),
        ("v3", {"exchange1": 4, "exchange2": 4, "decoder1": 4, "decoder2": 4}),
    ],
)
def test_gates_stand_where_the_version_says(version: str, gates: dict[str, int]) -> None:
    run = functools.partial(small(version).apply, train=False, mutable=["intermediates"])
    _, state = jax.eval_shape(run, weights(version), images_of(version))
    found: dict[str, int] = {}
    for path, attention in jax.tree_util.tree_leaves_with_path(state["intermediates"]):
        place = path[0].key.split("_")[0]
        found[place] = found.get(place, 0) + 1
        assert attention.shape[-1] == 1
    assert found == gates


def test_literal_text_goes_one_level_deeper() -> None:
    shallow, deep = (
        random_weights(ALONE(literal=literal), images_of("unimodal"), train=False)["params"]["decoder1"]
        for literal in (False, True)
    )
    assert deep.keys() - shallow.keys() == {"level5"}


def test_training_drops_features_and_moves_all_statistics() -> None:
    network, images = ALONE(), images_of("unimodal")
    variables = weights("unimodal")

    @jax.jit
    def trained(key: jax.Array) -> tuple[jax.Array, dict]:
        outputs, changed = network.apply(variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
        return outputs.logits, changed["batch_stats"]

    (one, statistics), (other, _) = trained(jax.random.key(1)), trained(jax.random.key(2))
    assert jnp.isfinite(one).all() and jnp.abs(one - other).max() > 1e-3
    pairs = zip(jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(statistics), strict=True)
    assert all((old != new).any() for old, new in pairs)


@pytest.mark.slow
def test_half_precision_ends_in_float32_logits() -> None:
    for version in VERSIONS:
        shapes = jax.eval_shape(
            functools.partial(small(version, dtype="bfloat16").apply, train=False), weights(version), images_of(version)
        )
        assert shapes.logits.dtype == jnp.float32
    variables, images = weights("unimodal"), images_of("unimodal")
    half = jax.jit(functools.partial(ALONE(dtype="bfloat16").apply, train=False))(variables, images).logits
    exact, *_ = judged("unimodal")(variables, images)
    assert jnp.abs(half - exact).max() < 0.03 * jnp.abs(exact - exact.mean()).max()


def test_what_it_cannot_take_is_said_plainly() -> None:
    key = jax.random.key(0)
    with pytest.raises(UserError, match="model.version=v1: it takes 2 modality group"):
        CrossDomainNet(groups=(1,), targets=1, width=4).init(key, jnp.zeros((1, 32, 32, 1)), train=False)
    with pytest.raises(UserError, match="as many targets in data.targets, and there are 2 and 1"):
        CrossDomainNet(groups=(1, 1), targets=1, width=4).init(key, jnp.zeros((1, 32, 32, 2)), train=False)
    with pytest.raises(UserError, match="that 32 divides, and the images are 48 x 48"):
        ALONE(literal=True).init(key, jnp.zeros((1, 48, 48, 1)), train=False)
