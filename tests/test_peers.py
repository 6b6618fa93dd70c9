"""The networks that the papers compare with: their sizes, one step of training each, and their parts by hand."""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstroke.errors import UserError
from jaxstroke.experiment import Model
from jaxstroke.models import count, registry
from jaxstroke.models.nn.recurrent import ConvLSTMCell, LSTMState, walk
from jaxstroke.models.nn.resize import adaptive_average_pool
from jaxstroke.models.nn.resnet import BareConv, max_pool_3x3
from jaxstroke.models.nn.transformer import Attention
from jaxstroke.models.nn.window import (
    APART,
    WindowAttention,
    WindowBlock,
    fitting_window,
    merge,
    partition,
    relative_index,
    shift_mask,
)
from jaxstroke.models.perfu_net import TimeAttention
from jaxstroke.models.pool_unet import PoolFormerBlock

# Options that make each network small, and a size that it takes.
SMALL: dict[str, tuple[dict[str, Any], int]] = {
    "unet": ({"width": 4}, 32),
    "unet_plus_plus": ({"width": 2}, 32),
    "attention_unet": ({"width": 4}, 32),
    "msnet": ({"width": 4}, 32),
    "trans_unet": ({"width": 4, "hidden": 16, "mlp": 8, "layers": 1, "decoder": (16, 8, 8, 4, 4)}, 32),
    "swin_unet": ({"width": 6, "depths": (1, 2, 1, 1)}, 64),
    "octopus_net": ({"width": 2}, 32),
    "psp_net": ({"width": 2, "units": (1, 1, 1, 1)}, 32),
    "pool_unet": ({"width": 4, "depths": (1, 1, 1, 1)}, 64),
    "perfu_net": ({"width": 4}, 16),
    "conv_lstm_unet": ({"width": 4}, 32),
    "unet3d": ({"width": 2}, 16),
}
FIXED_SIZE = ("trans_unet", "swin_unet")
TARGETS = 2
BATCH = 3  # not 2: batch normalisation of two means over a whole map gives +-1, whatever they are


# Small programs that run twice: compiling them is what takes time.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)


def small(name: str, size: int | None = None) -> nn.Module:
    options, usual = SMALL[name]
    return registry.build(Model(name, options), groups=(1, 1), targets=TARGETS, size=size or usual)


def arguments(name: str, height: int, width: int, batch: int = BATCH) -> tuple[jax.Array, ...]:
    """What the network takes: images, and for clips also which slices are there."""
    example = registry.find(name).example
    lead = {"slice": (batch,), "clip": (batch, 3), "volume": (batch, 3), "series": (batch, 8)}[example]
    channels = 2
    images = jax.random.normal(jax.random.key(1), (*lead, height, width, channels))
    return (images, jnp.ones(lead, bool)) if example == "clip" else (images,)


def answer_shape(name: str, images: jax.Array) -> tuple[int, ...]:
    lead = images.shape[:1] if registry.find(name).example == "series" else images.shape[:-3]
    return (*lead, *images.shape[-3:-1], TARGETS)


# --- size --------------------------------------------------------------------------------------------------------


@functools.cache
def measured(name: str) -> Any:
    return count.measure(next(entry for entry in registry.catalogue() if entry.name == name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "gmac"),
    [
        ("unet", 7_852_833, 10.70),
        ("unet_plus_plus", 9_163_617, 26.42),
        ("attention_unet", 7_855_005, 9.46),
        ("msnet", 5_308_545, 7.25),
        ("trans_unet", 46_046_577, 21.10),
        ("trans_unet/paper", 105_277_361, 29.19),
        ("swin_unet", 27_169_669, 6.08),
        ("conv_lstm_unet", 15_063_617, 6.19),
        ("unet3d", 16_323_713, 334.97),
        ("unet3d/small", 4_083_777, 83.97),
        ("octopus_net", 8_559_553, 11.18),
        ("psp_net", 46_591_169, 34.01),
        ("pool_unet", 15_570_993, 4.15),
        ("perfu_net", 1_045_316, 68.30),
    ],
)
def test_size_is_the_one_that_was_counted(name: str, parameters: int, gmac: float) -> None:
    assert measured(name).parameters == parameters
    assert measured(name).macs / 1e9 == pytest.approx(gmac, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "unet_plus_plus", "attention_unet", "msnet", "trans_unet", "swin_unet"])
@pytest.mark.parametrize("data_set", ["", "/isles2022"])
def test_size_meets_what_mdanet_prints(name: str, data_set: str) -> None:
    (entry,) = (entry for entry in registry.catalogue() if entry.name == name + data_set)
    (published,) = entry.published
    assert published.mib is not None and published.gmac is not None
    size = measured(entry.name)
    # The authors' Swin-Unet keeps masks and index tables as buffers, and a size on disk has them.
    numbers = size.parameters + (swin_buffers() if name == "swin_unet" else 0)
    assert count.mib(numbers) == pytest.approx(published.mib, rel=0.007)
    tolerance = 0.13 if name == "trans_unet" else 0.05  # its note says that the authors' counter left something out
    assert size.macs / 1e9 == pytest.approx(published.gmac, rel=tolerance)


def swin_buffers() -> int:
    """Index tables of 14 blocks (8 down, 6 up), and masks where a shifted block's map has more than one window."""
    tables = 14 * relative_index(7).size
    masks = 2 * sum(shift_mask(pixels, pixels, 7, 3).size for pixels in (56, 28, 14))
    return tables + masks


# --- every network -----------------------------------------------------------------------------------------------


def drawn(name: str, leaf: jax.ShapeDtypeStruct, generator: np.random.Generator) -> np.ndarray:
    """A weight or a running statistic of that name; drawn here because compiling initialisation takes long."""
    if name in ("scale", "var", "mean"):
        return np.full(leaf.shape, 0.0 if name == "mean" else 1.0, np.float32)
    deviation = 1 / math.sqrt(math.prod(leaf.shape[:-1])) if name == "kernel" else 0.1
    return generator.normal(0.0, deviation, leaf.shape).astype(np.float32)


def has_no_say(path: str) -> bool:
    """A bias before a normalisation that takes the mean away, or added to every score of a softmax."""
    return path.endswith("['bias']") and "norm" not in path


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_two_steps_of_training_and_then_use(name: str) -> None:
    """The loss falls, statistics move in training only, and every weight has a say in the answer."""
    network = small(name)
    size = SMALL[name][1]
    inputs = arguments(name, size, size)
    target = jax.random.bernoulli(jax.random.key(2), 0.3, answer_shape(name, inputs[0])).astype(jnp.float32)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs, train=False))
    generator = np.random.default_rng(0)
    variables = jax.tree_util.tree_map_with_path(lambda path, leaf: drawn(path[-1].key, leaf, generator), shapes)
    params, before = variables["params"], variables.get("batch_stats", {})

    @quick_jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def train(params: Any, statistics: Any) -> tuple[jax.Array, Any]:
        outputs, changed = network.apply(
            {"params": params, "batch_stats": statistics}, *inputs, train=True, mutable=["batch_stats"]
        )
        squares = jnp.square(nn.sigmoid(outputs.logits) - target)
        return squares.mean(), (outputs.logits, changed.get("batch_stats", {}))

    (first, (logits, after)), gradient = train(params, before)
    assert logits.shape == target.shape and logits.dtype == jnp.float32
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        where = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), where
        assert has_no_say(where) or np.abs(leaf).max() > 0, f"{where} has no gradient"
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (one != np.asarray(other)).any(), "training takes the statistics of the batch"
    norm = math.sqrt(sum(float(np.square(leaf).sum()) for leaf in jax.tree.leaves(gradient)))
    stepped = jax.tree.map(lambda leaf, change: leaf - np.asarray(0.02 / norm * change), params, gradient)
    (second, _), _ = train(stepped, after)
    assert float(second) < float(first)

    if before:  # else training and use are one
        use = quick_jit(functools.partial(network.apply, train=False, mutable=["batch_stats"]))
        outputs, kept = use({"params": stepped, "batch_stats": before}, *inputs)
        assert np.isfinite(outputs.logits).all() and not np.allclose(outputs.logits, logits)
        jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], before)


@pytest.mark.parametrize("name", [name for name in SMALL if name not in FIXED_SIZE])
def test_odd_sizes_come_back_as_they_went_in(name: str) -> None:
    network, inputs = small(name), arguments(name, 45, 39)
    outputs, _ = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), *inputs, train=True))
    assert outputs.logits.shape == answer_shape(name, inputs[0])


@pytest.mark.parametrize("size", [45, 64])
def test_trans_unet_takes_the_size_that_it_was_built_for(size: int) -> None:
    network, inputs = small("trans_unet", size), arguments("trans_unet", size, size)
    outputs, _ = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), *inputs, train=False))
    assert outputs.logits.shape == answer_shape("trans_unet", inputs[0])


@pytest.mark.parametrize(
    ("name", "height", "width", "says"),
    [
        ("unet", 15, 40, "images of 15 x 40: .* 16 x 16 at least"),
        ("perfu_net", 3, 8, "4 x 4 at least"),
        ("trans_unet", 48, 32, "images of 48 x 32: this trans_unet was built for 32 x 32"),
        ("swin_unet", 96, 64, "images of 96 x 64: this swin_unet was built for 64 x 64"),
        ("swin_unet", 80, 80, "images of 80 x 80: .* that 32 divides"),
    ],
)
def test_sizes_that_cannot_be_taken_are_named(name: str, height: int, width: int, says: str) -> None:
    network, inputs = small(name), arguments(name, height, width)
    with pytest.raises(UserError, match=says):
        jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs, train=False))


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_float32_in_half_precision_too(name: str) -> None:
    size = SMALL[name][1]
    network, inputs = small(name).clone(dtype="bfloat16"), arguments(name, size, size)
    outputs, variables = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), *inputs, train=True))
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs.logits, variables))} == {jnp.dtype("float32")}


# --- ConvLSTM ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream() -> dict[str, Any]:
    """A clip whose second subject lacks its third slice, in one go and slice by slice."""
    network = small("conv_lstm_unet")
    images = jax.random.normal(jax.random.key(3), (2, 3, 32, 48, 2))
    valid = jnp.array([[True, True, True], [True, True, False]])
    variables = quick_jit(functools.partial(network.init, train=False))(jax.random.key(0), images, valid)
    memory = network.apply(variables, 2, 32, 48, method="initial_memory")
    scan, step = (quick_jit(functools.partial(network.apply, method=method)) for method in ("scan", "step"))
    after, whole = scan(variables, memory, images, valid)
    memories, slices = [memory], []
    for number in range(3):
        memory, outputs = step(variables, memory, images[:, number], valid[:, number])
        memories.append(memory)
        slices.append(outputs.logits)
    return {"after": after, "whole": whole, "memories": memories, "slices": slices}


@pytest.mark.slow
def test_stream_gives_what_the_clip_gives(stream: dict[str, Any]) -> None:
    np.testing.assert_allclose(jnp.stack(stream["slices"], axis=1), stream["whole"].logits, atol=2e-5)
    for one, other in zip(*map(jax.tree.leaves, (stream["memories"][-1], stream["after"])), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.slow
def test_a_padded_slice_leaves_the_memory_as_it_is(stream: dict[str, Any]) -> None:
    *_, before, after = stream["memories"]
    for one, other in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        np.testing.assert_array_equal(one[1], other[1])
        assert bool(jnp.any(one[0] != other[0]))


def test_conv_lstm_cell_by_hand() -> None:
    """One pixel, so that only the middle of each kernel counts; two steps against the equations."""
    cell = ConvLSTMCell(1)
    maps = jnp.array([0.5, -2.0]).reshape(1, 2, 1, 1, 1)
    kernel = jnp.zeros((3, 3, 2, 4)).at[1, 1].set(jnp.array([[0.3, -0.2, 0.7, 1.1], [0.4, 0.6, -0.5, 0.9]]))
    bias = jnp.array([0.1, 1.0, -0.3, 0.2])
    params = {"params": {"gates": {"kernel": kernel, "bias": bias}}}
    state = LSTMState(*(jnp.zeros((1, 1, 1, 1)) for _ in range(2)))
    valid = jnp.ones((1, 2), bool)
    _, shown = nn.apply(lambda module: walk(module, state, maps, valid), cell)(params)

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    hidden = memory = 0.0
    for number, x in enumerate((0.5, -2.0)):
        i, f, o, g = (
            float(kernel[1, 1, 0, part] * x + kernel[1, 1, 1, part] * hidden + bias[part]) for part in range(4)
        )
        memory = sigmoid(f) * memory + sigmoid(i) * math.tanh(g)
        hidden = sigmoid(o) * math.tanh(memory)
        assert float(shown[0, number, 0, 0, 0]) == pytest.approx(hidden, abs=1e-6)


def test_a_new_conv_lstm_keeps_what_it_has() -> None:
    shapes = jnp.zeros((1, 2, 2, 3)), jnp.ones((1,), bool)
    cell = ConvLSTMCell(2)
    bias = cell.init(jax.random.key(0), cell.initial(1, 2, 2), shapes)["params"]["gates"]["bias"]
    np.testing.assert_array_equal(bias, [0, 0, 1, 1, 0, 0, 0, 0])


# --- windows -----------------------------------------------------------------------------------------------------


def test_partition_and_merge_are_inverse() -> None:
    x = jnp.arange(2 * 6 * 9 * 2).reshape(2, 6, 9, 2)
    windows = partition(x, 3)
    assert windows.shape == (2, 6, 9, 2)
    np.testing.assert_array_equal(windows[1, 4].reshape(3, 3, 2), x[1, 3:6, 3:6])  # second row of windows, its middle
    np.testing.assert_array_equal(merge(windows, 3, 6, 9), x)


def test_shift_mask_by_hand() -> None:
    """A 4 x 4 map rolled by 1, windows of 2: rows 1 2 | 3 0, so rows 3 and 0 stand together and are no neighbours."""
    mask = shift_mask(4, 4, 2, 1)
    no, yes = APART, 0.0
    free = np.zeros((4, 4))
    columns_apart = np.array([[yes, no, yes, no], [no, yes, no, yes], [yes, no, yes, no], [no, yes, no, yes]])
    rows_apart = np.array([[yes, yes, no, no], [yes, yes, no, no], [no, no, yes, yes], [no, no, yes, yes]])
    both_apart = np.where(np.eye(4) == 1, yes, no)
    np.testing.assert_array_equal(mask, np.stack([free, columns_apart, rows_apart, both_apart]))


def test_relative_index_by_hand() -> None:
    """Window of 2: from key to query by (-1..1, -1..1), nine rows; a pixel to itself is the middle one."""
    np.testing.assert_array_equal(relative_index(2), [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]])


def test_position_bias_reaches_the_pairs_that_it_names() -> None:
    """Only the score of "key one column to the left" is raised, so each right pixel attends to its left neighbour."""
    module = WindowAttention(heads=1, window=2)
    x = jax.random.normal(jax.random.key(0), (1, 1, 4, 2))
    params = module.init(jax.random.key(1), x, None)["params"]
    params = {**params, "position_bias": jnp.zeros((9, 1)).at[5].set(50.0)}
    _, sown = module.apply({"params": params}, x, None, mutable=["intermediates"])
    (weights,) = sown["intermediates"]["attention"]["weights"]
    np.testing.assert_allclose(weights[0, 0, 0, [1, 3]], [[1, 0, 0, 0], [0, 0, 1, 0]], atol=1e-6)


@pytest.mark.parametrize("shifted", [False, True])
def test_a_pixel_is_seen_in_its_window_only(shifted: bool) -> None:
    """8 x 8, windows of 4: pixel (0, 0) reaches the first window, or the corner of 2 x 2 that the shift cuts off."""
    block = WindowBlock(heads=1, window=4, shifted=shifted)
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 2))
    variables = block.init(jax.random.key(1), x)
    moved = block.apply(variables, x.at[0, 0, 0, 0].add(1.0)) != block.apply(variables, x)
    seen = np.zeros((8, 8), bool)
    reach = 2 if shifted else 4
    seen[:reach, :reach] = True
    np.testing.assert_array_equal(np.asarray(moved).any(axis=-1)[0], seen)


def test_windows_shrink_to_what_divides_the_map() -> None:
    assert [fitting_window(pixels, 7) for pixels in (56, 40, 16, 9, 5, 2, 1)] == [7, 5, 4, 3, 5, 2, 1]
    with pytest.raises(UserError, match="11 x 11 pixels cannot be cut .* choose another data.size"):
        fitting_window(11, 7)


# --- further parts -----------------------------------------------------------------------------------------------


def test_attention_against_loops() -> None:
    heads, tokens, depth = 2, 3, 2
    module = Attention(heads)
    x = jax.random.normal(jax.random.key(0), (1, tokens, heads * depth))
    bias = jax.random.normal(jax.random.key(1), (1, heads, tokens, tokens))
    params = module.init(jax.random.key(2), x, bias)["params"]
    params = jax.tree.map(lambda leaf: 20 * leaf, params)  # drawn near zero: make the softmax uneven
    got = module.apply({"params": params}, x, bias)
    dense = {
        name: (np.asarray(one["dense"]["kernel"]), np.asarray(one["dense"]["bias"])) for name, one in params.items()
    }
    qkv = np.asarray(x[0]) @ dense["qkv"][0] + dense["qkv"][1]
    mixed = np.zeros((tokens, heads * depth))
    for head in range(heads):
        q, k, v = (qkv[:, (part * heads + head) * depth :][:, :depth] for part in range(3))
        scores = np.exp(q @ k.T / math.sqrt(depth) + np.asarray(bias[0, head]))
        mixed[:, head * depth :][:, :depth] = scores / scores.sum(axis=1, keepdims=True) @ v
    np.testing.assert_allclose(got[0], mixed @ dense["project"][0] + dense["project"][1], rtol=1e-4, atol=1e-5)


def test_adaptive_pool_takes_overlapping_bins() -> None:
    """Seven rows in three bins: rows 0-2, 2-4, 4-6; two columns in three bins: 0, 0-1, 1."""
    x = jnp.arange(14.0).reshape(1, 7, 2, 1)
    got = adaptive_average_pool(x, 3)[0, :, :, 0]
    np.testing.assert_allclose(got, [[2, 2.5, 3], [6, 6.5, 7], [10, 10.5, 11]], rtol=1e-6)


def test_standardised_kernels_forget_scale_and_offset() -> None:
    conv = BareConv(3, kernel=3, standardise=True)
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 4))
    kernel = conv.init(jax.random.key(1), x)["params"]["kernel"]
    got = conv.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(got, conv.apply({"params": {"kernel": 7 * kernel + 2}}, x), atol=2e-3)
    kernel = np.asarray(kernel)
    middle = (kernel - kernel.mean((0, 1, 2))) / np.sqrt(kernel.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(got[0, 2, 2], np.einsum("hwi,hwio->o", x[0, 1:4, 1:4], middle), rtol=1e-4, atol=1e-5)


def test_dilated_convolution_looks_as_far_as_it_says() -> None:
    """A single 1 in the middle comes back at the nine places two pixels apart, and the size stays."""
    conv = BareConv(1, kernel=3, dilation=2)
    x = jnp.zeros((1, 7, 7, 1)).at[0, 3, 3, 0].set(1.0)
    got = conv.apply({"params": {"kernel": jnp.ones((3, 3, 1, 1))}}, x)[0, :, :, 0]
    assert sorted(map(tuple, np.argwhere(got).tolist())) == [(row, column) for row in (1, 3, 5) for column in (1, 3, 5)]


def test_max_pool_3x3_pads_with_nothing() -> None:
    x = -jnp.arange(1.0, 26.0).reshape(1, 5, 5, 1)
    np.testing.assert_array_equal(max_pool_3x3(x)[0, :, :, 0], [[-1, -2, -4], [-6, -7, -9], [-16, -17, -19]])


def test_pooling_as_token_mixer_leaves_padding_out() -> None:
    """A map that is constant in each channel has nothing to mix, at its edge neither."""
    block = PoolFormerBlock()
    x = jnp.broadcast_to(jnp.array([1.0, -2.0]), (1, 4, 5, 2))
    params = block.init(jax.random.key(0), x)["params"]
    params = {**params, "scale1": jnp.ones(2), "scale2": jnp.zeros(2)}
    np.testing.assert_allclose(block.apply({"params": params}, x), x, atol=1e-6)


def test_time_attention_is_a_mean_over_time() -> None:
    x = jax.random.normal(jax.random.key(0), (1, 4, 2, 3, 2))
    module = TimeAttention()
    params = module.init(jax.random.key(1), x)["params"]
    got, sown = module.apply({"params": params}, x, mutable=["intermediates"])
    (weights,) = sown["intermediates"]["time_weights"]
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(got, (weights * x).sum(axis=1), rtol=1e-5)
    still = jnp.broadcast_to(x[:, :1], x.shape)
    np.testing.assert_allclose(module.apply({"params": params}, still), x[:, 0], rtol=1e-5)
