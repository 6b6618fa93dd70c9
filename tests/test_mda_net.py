"""MDANet: its published size, its equations against plain loops, and what its skips and graph blocks do."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_weights
from scipy.special import erf

from jaxstroke.errors import UserError
from jaxstroke.models import count, registry
from jaxstroke.models.mda_net import DifferenceAwareSkip, MDANet, MultiScaleConv
from jaxstroke.models.nn.attention import NonLocalAttention, TransformerLayer
from jaxstroke.models.nn.graph import ChannelGraph, GraphConvolution, SpaceGraph

SMALL = functools.partial(MDANet, groups=(2, 2), targets=1, size=32, width=4)
IMAGES = jax.random.normal(jax.random.key(11), (2, 32, 32, 4))
FUSIONS = ("graph", "transformer", "non_local", "none")


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


# --- size --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "gmac"),
    [
        ("mda_net", 6_610_281, 11.13),
        ("mda_net/no_fusion", 5_895_649, 10.875),
        ("mda_net/non_local", 7_208_929, 11.22),
        ("mda_net/transformer", 16_499_169, 15.14),
        ("mda_net/isles2022", 6_390_087, 2.76),
    ],
)
def test_size_is_the_one_that_was_counted(name: str, parameters: int, gmac: float) -> None:
    size = count.measure(next(entry for entry in registry.catalogue() if entry.name == name))
    assert size.parameters == parameters
    assert size.macs / 1e9 == pytest.approx(gmac, rel=0.005)


@pytest.mark.slow
def test_size_meets_the_paper_when_read_as_mebibytes() -> None:
    for entry in registry.catalogue():
        if entry.network != "mda_net" or entry.size != 224:
            continue
        size = count.measure(entry)
        (published,) = entry.published
        assert published.mib is not None and published.gmac is not None
        assert count.mib(size.parameters) == pytest.approx(published.mib, rel=0.022), entry.name
        assert size.macs / 1e9 == pytest.approx(published.gmac, rel=0.05), entry.name


def test_parts_add_up_to_the_whole() -> None:
    network = MDANet(groups=(2, 2), targets=1, size=224)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), jnp.zeros((1, 224, 224, 4)))
    parts: dict[str, int] = {}
    for name, tree in shapes["params"].items():
        part = name.rstrip("0123456789")
        parts[part] = parts.get(part, 0) + count.elements(tree)
    assert parts == {
        "stem": 1_344,
        "encoder": 2_626_668,
        "channel_graph": 197_568,
        "space_graph": 517_064,
        "skip": 131_284,
        "decoder": 3_136_320,
        "head": 33,
    }


# --- equations ---------------------------------------------------------------------------------------------------


def test_graph_convolution_is_equation_7_written_with_loops() -> None:
    nodes, width = 5, 3
    graph = random(1, 1, nodes, width)
    module = GraphConvolution()
    params = jax.tree.map(lambda leaf: random(leaf.size, *leaf.shape), module.init(jax.random.key(0), graph)["params"])
    a, a_bias = (np.asarray(params["adjacency"][part]) for part in ("kernel", "bias"))
    w, w_bias = (np.asarray(params["weight"][part]) for part in ("kernel", "bias"))
    g = np.asarray(graph[0])
    expected = np.zeros((nodes, width))
    for n in range(nodes):
        for e in range(width):
            total = w_bias[e]
            for f in range(width):
                neighbours = a_bias[n] + sum(a[m, n] * g[m, f] for m in range(nodes))
                total += w[f, e] * (g[n, f] - neighbours)
            expected[n, e] = max(total, 0.0)
    assert (expected > 0).any() and (expected == 0).any()
    np.testing.assert_allclose(module.apply({"params": params}, graph)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_channel_graph_is_equations_4_and_5_written_with_loops() -> None:
    x = random(2, 1, 2, 2, 3, 4)  # 2 groups of 2 x 3 pixels, 4 channels
    nodes, embedding, pixels = 3, 2, 6
    module = ChannelGraph(nodes, embedding)
    params = jax.tree.map(lambda leaf: random(leaf.size, *leaf.shape), module.init(jax.random.key(0), x)["params"])
    flat = np.asarray(x[0]).reshape(2, pixels, 4)

    def pointwise(name: str, values: np.ndarray) -> np.ndarray:
        conv = params[name]["conv"]
        return values @ np.asarray(conv["kernel"])[0, 0] + np.asarray(conv["bias"])

    theta, phi = pointwise("theta", flat), pointwise("phi", flat)
    graph = np.zeros((2, nodes, embedding))
    for group in range(2):
        for pixel in range(pixels):
            graph[group] += np.outer(theta[group, pixel], phi[group, pixel]) / pixels
    joined = jnp.asarray(graph.reshape(1, 2 * nodes, embedding), jnp.float32)
    updated = np.asarray(GraphConvolution().apply({"params": params["graph"]}, joined)).reshape(2, nodes, embedding)
    back = np.stack([theta[group] @ updated[group] for group in range(2)])
    expected = flat + pointwise("back", back)
    got = np.asarray(module.apply({"params": params}, x))[0].reshape(2, pixels, 4)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_graphs_carry_features_from_one_group_to_the_other() -> None:
    x = random(3, 1, 2, 2, 2, 8)
    changed = x.at[:, 1].add(1.0)
    for module in (ChannelGraph(4, 4), SpaceGraph()):
        variables = module.init(jax.random.key(0), x)
        first, second = (module.apply(variables, one)[:, 0] for one in (x, changed))
        assert jnp.abs(first - second).max() > 1e-4


def test_skip_is_equations_2_and_3_by_hand() -> None:
    """One pixel, two channels, one inner channel: every number can be followed."""
    pair = jnp.array([[3.0, 1.0], [1.0, 2.0]]).reshape(1, 2, 1, 1, 2)  # F_D = (2, -1)
    decoded = jnp.array([1.0, 0.0, -1.0, 2.0]).reshape(1, 1, 1, 4)

    def conv(weights: list[float], bias: float) -> dict[str, dict[str, jax.Array]]:
        return {"conv": {"kernel": jnp.array(weights).reshape(1, 1, -1, 1), "bias": jnp.array([bias])}}

    params = {
        "theta2": conv([0.5, 1.0], 0.1),  # 0.5 * 2 + 1 * -1 + 0.1 = 0.1
        "theta3": conv([1.0, 1.0, 1.0, 0.5], 0.2),  # 1 + 0 - 1 + 1 + 0.2 = 1.2
        "theta1": conv([2.0], -1.6),  # 2 * 1.3 - 1.6 = 1
    }
    got = DifferenceAwareSkip().apply({"params": params}, pair, decoded)
    attention = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(got.reshape(-1), [2 + 2 * attention, -1 - attention], rtol=1e-6)


@pytest.mark.parametrize("combination", ["subtract", "add", "concat"])
def test_swapping_the_groups_negates_a_difference_and_keeps_a_sum(combination: str) -> None:
    pair, decoded = random(4, 1, 2, 3, 3, 4), random(5, 1, 3, 3, 8)
    module = DifferenceAwareSkip(combination)
    variables = module.init(jax.random.key(0), pair, decoded)

    def sown(maps: jax.Array) -> jax.Array:
        _, state = module.apply(variables, maps, decoded, mutable=["intermediates"])
        return state["intermediates"]["difference"][0]

    straight, swapped = sown(pair), sown(pair[:, ::-1])
    sign = {"subtract": -1.0, "add": 1.0}.get(combination)
    if sign is not None:
        np.testing.assert_array_equal(swapped, sign * straight)
    else:
        assert jnp.abs(jnp.abs(swapped) - jnp.abs(straight)).max() > 1e-3


def test_multi_scale_branches_see_3_5_and_7_pixels() -> None:
    module = MultiScaleConv(24)
    x = random(8, 1, 9, 9, 2)
    variables = random_weights(module, x, train=False)
    reach = jax.jit(jax.jacobian(lambda image: module.apply(variables, image, train=False)[0, 4, 4]))(x)
    seen = np.asarray(jnp.abs(reach[:, 0]).max(axis=-1))  # (24 features, 9, 9)
    for features, pixels in ((slice(0, 8), 3), (slice(8, 16), 5), (slice(16, 24), 7)):
        around = range(4 - pixels // 2, 4 + pixels // 2 + 1)
        for axis in (1, 2):
            assert np.flatnonzero(seen[features].max(axis=(0, axis))).tolist() == list(around)


@pytest.mark.slow
def test_attention_blocks_of_table_5_mix_by_softmax_weights() -> None:
    x, y = random(9, 2, 5, 16), random(10, 2, 7, 16)
    for module in (NonLocalAttention(), TransformerLayer(heads=4, mlp_ratio=2)):
        variables = module.init(jax.random.key(0), x, y)
        out, state = module.apply(variables, x, y, mutable=["intermediates"])
        (weights,) = state["intermediates"]["attention"]
        assert out.shape == x.shape and weights.shape[-2:] == (5, 7)
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
        order = jnp.array([3, 0, 6, 1, 5, 2, 4])  # context tokens bear no order
        np.testing.assert_allclose(module.apply(variables, x, y[:, order]), out, atol=1e-5)


def layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def drawn_for(module: Any, *inputs: jax.Array) -> tuple[dict, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Random variables, and by name a dense layer's kernel and bias in float64; norms are left as they are made."""
    variables = module.init(jax.random.key(0), *inputs)
    draw = np.random.default_rng(7)
    for leaves in variables["params"].values():
        if "kernel" in leaves:
            leaves["bias"] = jnp.asarray(draw.normal(size=leaves["bias"].shape), jnp.float32)
    layers = {name: leaves for name, leaves in variables["params"].items() if "kernel" in leaves}
    return variables, {name: (np.float64(one["kernel"]), np.float64(one["bias"])) for name, one in layers.items()}


def test_a_non_local_block_has_the_values_of_its_formula() -> None:
    """x + softmax(q(x) k(y)^T) v(y), in numpy."""
    x, y = random(9, 2, 5, 16), random(10, 2, 7, 16)
    module = NonLocalAttention()
    variables, layers = drawn_for(module, x, y)
    (wq, bq), (wk, bk), (wv, bv) = (layers[name] for name in ("query", "key", "value"))
    a, b = np.float64(x), np.float64(y)
    expected = a + softmax((a @ wq + bq) @ (b @ wk + bk).swapaxes(1, 2)) @ (b @ wv + bv)
    np.testing.assert_allclose(module.apply(variables, x, y), expected, atol=2e-5)


def test_a_transformer_layer_has_the_values_of_its_formula() -> None:
    """Head h has columns 4 h to 4 h + 3 of queries, keys and values; scale 1 / sqrt(4); GELU is the exact one."""
    x, y = random(9, 2, 5, 16), random(10, 2, 7, 16)
    module = TransformerLayer(heads=4, mlp_ratio=2)
    variables, layers = drawn_for(module, x, y)

    def dense(name: str, tokens: np.ndarray) -> np.ndarray:
        kernel, bias = layers[name]
        return tokens @ kernel + bias

    a, b = np.float64(x), np.float64(y)
    query, key, value = dense("query", layer_norm(a)), dense("key", layer_norm(b)), dense("value", layer_norm(b))
    heads = [slice(4 * head, 4 * head + 4) for head in range(4)]
    mixed = [softmax(query[..., h] @ key[..., h].swapaxes(1, 2) / 2) @ value[..., h] for h in heads]
    a = a + dense("out", np.concatenate(mixed, axis=-1))
    hidden = dense("mlp1", layer_norm(a))
    expected = a + dense("mlp2", hidden * (1 + erf(hidden / np.sqrt(2))) / 2)
    np.testing.assert_allclose(module.apply(variables, x, y), expected, atol=2e-5)


# --- the network as a whole --------------------------------------------------------------------------------------


@functools.cache
def weights(fusion: str) -> dict[str, Any]:
    return random_weights(SMALL(fusion=fusion), IMAGES, train=False)


@functools.cache
def judged(fusion: str) -> Any:
    """Compiled once: (variables, images) -> outputs, gradients of a mean square, and what was sown, as in use."""
    network = SMALL(fusion=fusion)

    def loss(params: dict, rest: dict, images: jax.Array) -> tuple[jax.Array, Any]:
        outputs, state = network.apply({**rest, "params": params}, images, train=False, mutable=["intermediates"])
        return jnp.mean(outputs.logits**2), (outputs, state["intermediates"])

    @jax.jit
    def judge(variables: dict, images: jax.Array) -> Any:
        rest = {"batch_stats": variables["batch_stats"]}
        (_, (outputs, sown)), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"], rest, images)
        return outputs, gradients, sown

    return judge


def differences(sown: dict) -> list[jax.Array]:
    return [sown["bottleneck_difference"][0], *(sown[f"skip{level}"]["difference"][0] for level in range(1, 5))]


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_weight_has_a_gradient(fusion: str) -> None:
    outputs, gradients, _ = judged(fusion)(weights(fusion), IMAGES)
    assert jnp.isfinite(outputs.logits).all()
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        name = jax.tree_util.keystr(path)
        if "['key']['bias']" in name:
            continue  # a shift of all keys alike, which a softmax does not see
        assert jnp.abs(gradient).max() > 0, f"{name} takes no part"


@pytest.mark.slow
def test_swapping_the_groups_negates_every_difference() -> None:
    """With the first stages swapped as well, the shared encoder sees the same two maps in the other order."""
    straight = weights("none")
    swapped = {kind: {**tree, "stem1": tree["stem2"], "stem2": tree["stem1"]} for kind, tree in straight.items()}
    turned = jnp.concatenate([IMAGES[..., 2:], IMAGES[..., :2]], axis=-1)
    (*_, one), (*_, other) = judged("none")(straight, IMAGES), judged("none")(swapped, turned)
    for before, after in zip(differences(one), differences(other), strict=True):
        assert jnp.abs(before).max() > 0
        np.testing.assert_allclose(after, -before, atol=1e-5)


@pytest.mark.slow
def test_equal_groups_leave_nothing_to_see() -> None:
    same = {kind: {**tree, "stem2": tree["stem1"]} for kind, tree in weights("none").items()}
    *_, sown = judged("none")(same, jnp.tile(IMAGES[..., :2], (1, 1, 1, 2)))
    for difference in differences(sown):  # rounding alone: convolutions of one batch are not summed in one order
        np.testing.assert_allclose(difference, 0.0, atol=1e-5)


@pytest.mark.slow
def test_a_group_reaches_its_own_first_stage_alone() -> None:
    before, *_ = judged("graph")(weights("graph"), IMAGES)
    after, *_ = judged("graph")(weights("graph"), IMAGES.at[..., 2:].add(1.0))
    np.testing.assert_array_equal(before.features["group1"], after.features["group1"])
    assert jnp.abs(before.features["group2"] - after.features["group2"]).max() > 0


@pytest.mark.parametrize(("blocks", "skip"), [("multi_scale", "concat"), ("double", "subtract")])
def test_training_gives_finite_logits_and_moves_all_statistics(blocks: str, skip: str) -> None:
    network = SMALL(blocks=blocks, skip=skip, targets=2)
    variables = random_weights(network, IMAGES, train=False)
    outputs, changed = jax.jit(functools.partial(network.apply, train=True, mutable=["batch_stats"]))(variables, IMAGES)
    assert outputs.logits.shape == (2, 32, 32, 2) and jnp.isfinite(outputs.logits).all()
    assert outputs.features["group1"].shape == outputs.features["group2"].shape == (2, 32, 32, 4)
    pairs = zip(jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(changed["batch_stats"]), strict=True)
    assert all((old != new).any() for old, new in pairs)


@pytest.mark.slow
def test_half_precision_ends_in_float32_logits() -> None:
    for fusion in FUSIONS:
        shapes = jax.eval_shape(
            functools.partial(SMALL(fusion=fusion, dtype="bfloat16").apply, train=False), weights(fusion), IMAGES
        )
        assert shapes.logits.dtype == jnp.float32
        assert shapes.features["group1"].dtype == jnp.bfloat16
    half = jax.jit(functools.partial(SMALL(dtype="bfloat16").apply, train=False))(weights("graph"), IMAGES).logits
    exact = judged("graph")(weights("graph"), IMAGES)[0].logits
    assert jnp.abs(half - exact).max() < 0.05 * jnp.abs(exact - exact.mean()).max()


def test_what_it_cannot_take_is_said_plainly() -> None:
    key = jax.random.key(0)
    with pytest.raises(UserError, match="two modality groups, and there are 3"):
        MDANet(groups=(1, 1, 1), targets=1, size=32, width=4).init(key, jnp.zeros((1, 32, 32, 3)), train=False)
    with pytest.raises(UserError, match="data.size=32: .* cannot take images of 48 x 48"):
        SMALL().init(key, jnp.zeros((1, 48, 48, 4)), train=False)
