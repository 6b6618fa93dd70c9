"""DME-Net: what its memories hold and return, and that streaming, padding and precision behave."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstroke.errors import UserError
from jaxstroke.experiment import Model
from jaxstroke.models import registry
from jaxstroke.models.count import parameters
from jaxstroke.models.dme_net import CATALOGUE, DMENet, _coarse
from jaxstroke.models.nn import memory as memories
from jaxstroke.models.nn import replay
from jaxstroke.models.nn.resize import max_pool

BATCH, SLICES, SIDE = 2, 4, 32
NETWORK = DMENet((2, 1), width=4, memory_slices=2, prototypes=3)
# Most of the time here goes to the compiler's optimisations, which tests of shapes and finiteness can do without.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def clip():
    images = jax.random.normal(jax.random.key(1), (BATCH, SLICES, SIDE, SIDE, 3))
    return images, jnp.ones((BATCH, SLICES), bool)


@functools.cache
def weights():
    """Random weights by shape: much faster than compiling the network's own initialisation."""
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), *clip())
    random = np.random.default_rng(0)

    def draw(path, leaf):
        kind = path[-1].key
        centre = 1.0 if kind == "scale" else 0.0
        spread = {"kernel": (3 * np.prod(leaf.shape[:-1])) ** -0.5, "prototype": 1.0}.get(kind, 0.1)
        return jnp.asarray(centre + spread * random.standard_normal(leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def stepper():
    return jax.jit(functools.partial(NETWORK.apply, method="step"))


def empty_memory():
    return NETWORK.apply(weights(), BATCH, SIDE, SIDE, method="initial_memory")


def stream(images, valid):
    memory, logits = empty_memory(), []
    for index in range(images.shape[1]):
        memory, outputs = stepper()(weights(), memory, images[:, index], valid[:, index])
        logits.append(outputs.logits)
    return memory, jnp.stack(logits, axis=1)


# --- the temporal memory -----------------------------------------------------------------------------------------


def test_distance_attention_by_hand():
    queries = jnp.array([[[1.0, 0.0, 0.0, 0.0]]])
    keys = jnp.array([[[1.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]])
    stored = jnp.array([[True, True, False]])
    # (2 m.q - |m|^2) / sqrt(4) = (2 - 1) / 2 and (6 - 9) / 2: the long key loses although its product is larger.
    expected = np.exp([0.5, -1.5]) / np.exp([0.5, -1.5]).sum()
    got = memories.distance_attention(queries, keys, stored)
    np.testing.assert_allclose(got[0, 0], [*expected, 0.0], rtol=1e-6)


def test_empty_memory_reads_zero_with_finite_gradients():
    queries, keys = jnp.ones((1, 2, 4)), jnp.zeros((1, 3, 4))
    stored = jnp.zeros((1, 3), bool)

    def read(queries, keys):
        return memories.distance_attention(queries, keys, stored).sum()

    value, gradients = jax.value_and_grad(read, argnums=(0, 1))(queries, keys)
    assert value == 0.0
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


def test_recall_of_a_single_stored_slice_returns_its_value():
    unit = memories.TemporalMemory(slices=3, key_width=2, value_width=2)
    state = unit.apply({}, 1, 1, 1, method="initial")
    value = jnp.array([0.25, -7.0]).reshape(1, 1, 1, 2)
    state = state.replace(
        keys=memories.push(state.keys, jnp.full((1, 1, 1, 2), 5.0)),
        values=memories.push(state.values, value),
        stored=memories.push(state.stored, jnp.array([True])),
    )
    recalled = unit.apply({}, state, jnp.array([-3.0, 4.0]).reshape(1, 1, 1, 2), method="recall")
    np.testing.assert_array_equal(recalled, value)


def test_queue_keeps_the_newest_slices_oldest_first():
    queue = jnp.zeros((1, 3))
    for number in range(1, 6):
        queue = memories.push(queue, jnp.array([float(number)]))
    np.testing.assert_array_equal(queue, [[3.0, 4.0, 5.0]])


@pytest.mark.slow
def test_stored_marks_fill_from_the_newest_end():
    images, valid = clip()
    memory, _ = stream(images[:, :1], valid[:, :1])
    np.testing.assert_array_equal(memory.temporal.stored, [[False, True]] * BATCH)
    memory, _ = stream(images[:, :3], valid[:, :3])
    assert memory.temporal.stored.all()


def test_recurrent_unit_by_hand():
    x, hidden = jnp.full((1, 1, 1, 1), 2.0), jnp.full((1, 1, 1, 1), 0.5)
    unit = memories.ConvGRU()
    zeros = jax.tree.map(jnp.zeros_like, unit.init(jax.random.key(0), x, hidden))
    centre = zeros["params"]["candidate"]["conv"]["kernel"].at[1, 1, :, 0].set(jnp.array([0.1, 1.0]))
    zeros["params"]["candidate"]["conv"]["kernel"] = centre
    zeros["params"]["gates"]["conv"]["bias"] = jnp.array([2.0, -1.0])
    update, reset = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0))
    candidate = np.tanh(0.1 * 2 + reset * 0.5)
    expected = (1 - update) * 0.5 + update * candidate
    np.testing.assert_allclose(unit.apply(zeros, x, hidden).item(), expected, rtol=1e-6)


def test_mask_is_written_as_the_share_of_each_cell():
    mask = jnp.zeros((1, 32, 16, 1)).at[0, 16:24].set(1.0)
    np.testing.assert_array_equal(_coarse(mask)[0, :, :, 0], [[0.0], [0.5]])


@pytest.mark.slow
def test_what_is_predicted_is_remembered_without_a_gradient():
    images, valid = clip()
    drawn = weights()  # before anything is traced, as they are kept

    def written(module, logits):
        features, memory = module._encode(images[:, 0]), module.initial_memory(BATCH, SIDE, SIDE)
        _, reading = module._read(memory, features)
        return module._write(memory, features, reading, logits, valid[:, 0]).temporal.values.sum()

    total = quick_jit(jax.value_and_grad(lambda logits: NETWORK.apply(drawn, logits, method=written)))
    (dark, gradient), (bright, _) = (total(jnp.full((BATCH, SIDE, SIDE, 1), value)) for value in (-3.0, 3.0))
    assert abs(bright - dark) > 1e-3, "the mask is in what is stored"
    np.testing.assert_array_equal(gradient, 0)


def test_pooling_gradient_goes_to_one_pixel_and_keeps_nan():
    x = jnp.array([[1.0, 3.0, 9.0], [3.0, 2.0, 9.0], [9.0, 9.0, 9.0]])[None, :, :, None]
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert jnp.isnan(max_pool(x.at[(0, *place, 0)].set(jnp.nan))).all()


# --- the spatial memory ------------------------------------------------------------------------------------------


def spatial_unit():
    unit = memories.SpatialMemory(prototypes=2, width=2)
    z = jnp.array([[3.0, 0.0], [0.0, 5.0]]).reshape(1, 1, 2, 2)

    def everything(unit, z):
        state = unit.initial(1)
        return unit.read(state, z), unit.write(state, z, valid=jnp.array([True]))

    variables = unit.init(jax.random.key(0), z, method=everything)
    return unit, z, variables


def test_slots_move_a_little_towards_what_resembles_them():
    unit, z, variables = spatial_unit()
    zeros = jax.tree.map(jnp.zeros_like, variables["params"])
    zeros["prototype"] = 20.0 * jnp.eye(2)
    zeros["content"]["conv"]["kernel"] = jnp.eye(2).reshape(1, 1, 2, 2)
    zeros["gate"]["bias"] = variables["params"]["gate"]["bias"]
    np.testing.assert_array_equal(zeros["gate"]["bias"], [-2.0, -2.0])
    state = memories.SpatialState(zeros["prototype"][None])
    state = unit.apply({"params": zeros}, state, z, valid=jnp.array([True]), method="write")
    gate = 1.0 / (1.0 + np.exp(2.0))
    expected = 20.0 * np.eye(2) + gate * (np.diag([3.0, 5.0]) - 20.0 * np.eye(2))
    np.testing.assert_allclose(state.slots[0], expected, atol=1e-4)


def test_slots_are_untouched_on_padding():
    unit, z, variables = spatial_unit()
    state = unit.apply(variables, 2, method="initial")
    both = jnp.concatenate([z, z])
    new = unit.apply(variables, state, both, valid=jnp.array([True, False]), method="write")
    assert not np.array_equal(new.slots[0], state.slots[0])
    np.testing.assert_array_equal(new.slots[1], state.slots[1])


def test_subjects_start_from_the_same_prototypes():
    slots = empty_memory().spatial.slots
    assert slots.shape == (BATCH, 3, 32)
    np.testing.assert_array_equal(slots[0], slots[1])


# --- the network -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_decodes_with_what_the_walk_convolved(monkeypatch):
    """Every gradient is that of decoding afresh after the walk, and no convolution is computed twice."""
    convolutions = []
    drawn = weights()["params"], clip()[0]  # out here: they are kept for other tests, as float32
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype("float64"), drawn)
        ct = np.random.default_rng(3).normal(size=(BATCH, SLICES, SIDE, SIDE, 1))

        def loss(params, images):
            return (NETWORK.apply({"params": params}, images, clip()[1], train=True).logits * ct).sum()

        def gradients():
            compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*wide).compile()
            convolutions.append(compiled.as_text().count(" convolution("))
            return compiled(*wide)

        once = gradients()
        monkeypatch.setattr(replay, "recording", lambda: contextlib.nullcontext([]))
        afresh = gradients()
    for ours, other in zip(jax.tree.leaves(once), jax.tree.leaves(afresh), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())
    # Two at each of the decoder's four levels; that of the head is needed by no gradient.
    assert convolutions[0] == convolutions[1] - 8


def test_other_platforms_than_the_cpu_keep_no_convolutions_of_the_walk():
    """What is kept in memory there costs more than what is computed once more."""
    step = jax.jit(lambda value, x: replay._known(value, x + 1))
    for platform, kept in (("cpu", True), ("cuda", False), ("tpu", False)):
        text = step.trace(jnp.ones(3), jnp.ones(3)).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.return %arg0" in text) is kept, platform


def test_streaming_equals_the_scan():
    images, valid = clip()
    valid = valid.at[0, 1].set(False)
    streamed_memory, streamed = stream(images, valid)
    scan = jax.jit(functools.partial(NETWORK.apply, method="scan"))
    memory, outputs = scan(weights(), empty_memory(), images, valid)
    np.testing.assert_allclose(streamed, outputs.logits, rtol=0, atol=2e-6 * float(jnp.abs(outputs.logits).max()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), streamed_memory, memory)


def test_padding_leaves_the_carry_bit_identical():
    images, valid = clip()
    before, _ = stream(images[:, :2], valid[:, :2])
    after, _ = stepper()(weights(), before, 1e3 * images[:, 2], jnp.array([False, True]))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(old[0], new[0])
        assert not np.array_equal(old[1], new[1]) or old.dtype == bool


def test_the_past_matters_and_the_future_does_not():
    images, valid = clip()
    _, logits = stream(images, valid)
    _, changed = stream(images.at[:, 1].add(1.0), valid)
    np.testing.assert_array_equal(logits[:, 0], changed[:, 0])
    assert jnp.abs(logits[:, 3] - changed[:, 3]).max() > 1e-6


def test_subjects_of_a_batch_do_not_mix():
    images, valid = clip()
    _, logits = stream(images, valid)
    _, changed = stream(images.at[1].add(1.0), valid)
    np.testing.assert_allclose(logits[0], changed[0], atol=1e-6)


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_weight_through_an_empty_memory():
    images, valid = clip()

    def loss(variables, network):
        return jnp.square(network.apply(variables, images, valid, train=True).logits).mean()

    jax.eval_shape(jax.grad(functools.partial(loss, network=NETWORK.clone(remat=True))), weights())
    gradients = quick_jit(jax.grad(functools.partial(loss, network=NETWORK)))(weights())
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        name = jax.tree_util.keystr(path)
        assert jnp.isfinite(gradient).all(), name
        # A bias may be cancelled by the normalisation after it; a kernel may not.
        assert "kernel" not in name or jnp.abs(gradient).max() > 0, name


def test_half_precision_stays_finite_with_float32_logits_and_memory():
    images, valid = clip()
    network = NETWORK.clone(dtype="bfloat16")
    scan = quick_jit(functools.partial(network.apply, method="scan"))
    memory, outputs = scan(weights(), empty_memory(), 100.0 * images, valid)
    assert outputs.logits.dtype == jnp.float32 and jnp.isfinite(outputs.logits).all()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(memory)} == {"float32", "bool"}
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(memory))


@pytest.mark.slow
def test_half_precision_is_near_the_whole_one():
    images, valid = clip()
    networks = (NETWORK, NETWORK.clone(dtype="bfloat16"))
    scans = (quick_jit(functools.partial(one.apply, method="scan")) for one in networks)
    exact, half = (scan(weights(), empty_memory(), images, valid)[1].logits for scan in scans)
    assert jnp.abs(half - exact).max() < 0.05 * jnp.abs(exact - exact.mean()).max()  # measured: .026


def test_attention_and_gate_are_sown_by_slice():
    images, valid = clip()
    _, sown = quick_jit(functools.partial(NETWORK.apply, mutable=["intermediates"]))(weights(), images, valid)
    (gate,) = sown["intermediates"]["memory_gate"]["gate"]
    (temporal,) = sown["intermediates"]["temporal_memory"]["temporal_attention"]
    (spatial,) = sown["intermediates"]["spatial_memory"]["spatial_attention"]
    assert gate.shape == (SLICES, BATCH, 2, 2, 32) and ((gate > 0) & (gate < 1)).all()
    assert temporal.shape == (SLICES, BATCH, 2, 2, 2) and spatial.shape == (SLICES, BATCH, 2, 2, 3)
    np.testing.assert_array_equal(temporal[0], 0.0)  # nothing is stored yet
    np.testing.assert_allclose(temporal[1:].sum(axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(spatial.sum(axis=-1), 1.0, rtol=1e-5)
    step = functools.partial(NETWORK.apply, method="step", mutable=["intermediates"])
    _, sown = jax.eval_shape(step, weights(), empty_memory(), images[:, 0], valid[:, 0])
    assert sown["intermediates"]["memory_gate"]["gate"][0].shape == (BATCH, 2, 2, 32)


def at_paper_size(options, slices=8):
    network = registry.build(Model("dme_net", options), groups=(4, 1), targets=1, size=160)
    images = jax.ShapeDtypeStruct((8, slices, 160, 160, 5), jnp.float32)
    valid = jax.ShapeDtypeStruct((8, slices), bool)
    return jax.eval_shape(lambda *x: network.init_with_output(jax.random.key(0), *x, train=True), images, valid)


@pytest.mark.slow
def test_paper_size_and_ablations():
    sizes = {}
    for entry in CATALOGUE:
        outputs, variables = at_paper_size(entry.options)
        assert outputs.logits.shape == (8, 8, 160, 160, 1)
        sizes[entry.name.partition("/")[2]] = parameters(variables)
        if not entry.options:
            assert variables["params"]["spatial_memory"]["prototype"].shape == (64, 256)
    assert sizes == {"": 14_317_745, "no_temporal": 6_040_177, "no_spatial": 11_547_313, "no_memories": 5_497_713}
    # The gate, 9 (512 + 2 * 256) * 256 + 256 weights, goes with either memory; the last projection only with both.
    gate, fuse = 9 * 1024 * 256 + 256, 256 * 512 + 512
    temporal, spatial = sizes["no_spatial"] - sizes["no_memories"], sizes["no_temporal"] - sizes["no_memories"]
    assert sizes[""] == sizes["no_memories"] + temporal + spatial + gate - fuse


def test_any_clip_length_and_any_size_that_16_divides():
    network = DMENet((2, 1), width=4)
    images = jax.ShapeDtypeStruct((1, 3, 48, 80, 3), jnp.float32)
    valid = jax.ShapeDtypeStruct((1, 3), bool)
    outputs, _ = jax.eval_shape(lambda *x: network.init_with_output(jax.random.key(0), *x, train=False), images, valid)
    assert outputs.logits.shape == (1, 3, 48, 80, 1)


@pytest.mark.parametrize(
    ("network", "shape", "text"),
    [
        (DMENet((2, 1), width=4), (1, 1, 40, 32, 3), "slices of 40 x 32: .* 16 divides"),
        (DMENet((2, 1), width=4), (1, 1, 32, 32, 4), "4 channels: data.groups .* add up to 3"),
        (DMENet((3,), width=4), (1, 1, 32, 32, 3), "two groups of images or more"),
        (DMENet((2, 1), width=5), (1, 1, 32, 32, 3), "model.width=5: .* an even one"),
    ],
)
def test_mistakes_are_named(network, shape, text):
    with pytest.raises(UserError, match=text):
        jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(shape), jnp.ones(shape[:2], bool)))


def test_build_refuses_a_size_that_16_does_not_divide():
    with pytest.raises(UserError, match="data.size=100: .* such as 96 or 112"):
        registry.build(Model("dme_net"), groups=(4, 1), targets=1, size=100)
