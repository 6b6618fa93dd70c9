"""A convolution and its gradients as they are written for the CPU, against JAX's own."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstroke.models import count
from jaxstroke.models.nn import winograd
from jaxstroke.models.nn.convolution import convolve

BOUNDS = {"float32": 1e-5, "float64": 1e-13, "bfloat16": 2e-2}


def _draw(shape: tuple[int, ...], kernel: tuple[int, ...], dtype: Any, seed: int = 0) -> tuple[jax.Array, ...]:
    random = np.random.default_rng(seed)
    shapes = (shape, kernel, (*shape[:-1], kernel[-1]))
    x, k, g = (jnp.asarray(random.normal(size=one), dtype) for one in shapes)
    return x, k, g


def _own(x: jax.Array, kernel: jax.Array) -> jax.Array:
    axes = "DHW"[5 - x.ndim :]
    padding = [(size // 2, size // 2) for size in kernel.shape[:-2]]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(x, kernel, (1,) * len(padding), padding, dimension_numbers=numbers)


def _ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve(x, kernel, (1,) * (x.ndim - 2), [(size // 2, size // 2) for size in kernel.shape[:-2]])


@functools.partial(jax.jit, static_argnums=0)
def _with_gradients(call: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, g: jax.Array) -> list[jax.Array]:
    value, back = jax.vjp(call, x, kernel)
    return [value, *back(g)]


def _agree(shape: tuple[int, ...], kernel: tuple[int, ...], dtype: str, seed: int = 0) -> None:
    with jax.enable_x64(dtype == "float64"):
        x, k, g = _draw(shape, kernel, dtype, seed)
        wanted, ours = (_with_gradients(call, x, k, g) for call in (_own, _ours))
        if min(kernel[-2:]) < 128:
            assert jnp.array_equal(ours[0], wanted[0])
        for found, own in zip(ours, wanted, strict=True):
            assert found.dtype == own.dtype and found.shape == own.shape
            error = jnp.linalg.norm((found - own).astype(float)) / jnp.linalg.norm(own.astype(float))
            assert error <= BOUNDS[dtype], (shape, kernel, dtype, float(error))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((2, 7, 5, 3), (3, 3, 3, 4)),  # more channels come out: x plays the batch
        ((2, 7, 5, 6), (3, 3, 6, 2)),  # fewer: g does
        ((3, 4, 6, 5), (1, 1, 5, 2)),
        ((1, 3, 4, 5, 2), (3, 3, 3, 2, 3)),
        ((2, 9, 8, 2), (5, 3, 2, 2)),
        ((2, 7, 10, 128), (3, 3, 128, 130)),  # in Winograd's form, in float32
    ],
)
def test_gradients_are_those_of_jax(shape: tuple[int, ...], kernel: tuple[int, ...], dtype: str) -> None:
    _agree(shape, kernel, dtype)


@settings(max_examples=5, deadline=None)
@given(
    batch=st.integers(1, 3),
    space=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    window=st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 5)]),
    seed=st.integers(0, 9),
)
def test_gradients_are_those_of_jax_at_any_size(
    batch: int, space: tuple[int, int], channels: tuple[int, int], window: tuple[int, int], seed: int
) -> None:
    _agree((batch, *space, channels[0]), (*window, *channels), "float32", seed)


@settings(max_examples=12, deadline=None)
@given(
    batch=st.integers(1, 3),
    space=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 9),
)
def test_winograds_form_is_the_convolution_at_any_size(
    batch: int, space: tuple[int, int], channels: tuple[int, int], seed: int
) -> None:
    with jax.enable_x64(True):
        x, k, g = _draw((batch, *space, channels[0]), (3, 3, *channels), "float64", seed)
        value, _, gradient = _with_gradients(_own, x, k, g)
        np.testing.assert_allclose(jax.jit(winograd.convolve)(x, k), value, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(jax.jit(winograd.kernel_gradient)(x, g), gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("channels", "dtype", "own"), [(128, "float32", 0), (127, "float32", 3), (128, "bfloat16", 3)])
def test_many_channels_of_float32_take_winograds_form_on_a_cpu_and_there_alone(
    channels: int, dtype: str, own: int
) -> None:
    """Convolutions in a step's program: forward, and both gradients."""
    assert len(_convolutions(_ours, "cpu", channels, dtype)) == own
    assert _convolutions(_ours, "tpu", channels, dtype) == _convolutions(_own, "tpu", channels, dtype)


@pytest.mark.parametrize("sizes", ["batch, 8, 8, 128", "2, height, width, 128"])
def test_a_program_of_open_sizes_holds_the_convolution_of_jax_on_every_platform(sizes: str) -> None:
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 128, 128))
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 128))
    open_x = jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), jnp.float32)
    exports = [jax.export.export(jax.jit(call), platforms=("cpu", "cuda"))(open_x, kernel) for call in (_ours, _own)]
    ours, own = (re.findall(r"stablehlo.convolution\(.*?\) (.*?) loc", one.mlir_module()) for one in exports)
    assert ours == own != []
    np.testing.assert_allclose(exports[0].call(x, kernel), _own(x, kernel), rtol=1e-4, atol=1e-3)


def test_winograds_form_is_counted_as_the_convolution_that_it_is() -> None:
    x, kernel, _ = _draw((2, 8, 8, 128), (3, 3, 128, 128), "float32")
    assert count.count_macs(_ours, x, kernel) == 2 * 8 * 8 * 9 * 128 * 128


def _answer(layer: nn.Conv, variables: Any, x: jax.Array) -> jax.Array:
    return jnp.asarray(layer.apply(variables, x))


@pytest.mark.parametrize(
    "options",
    [
        {"strides": (2, 2)},
        {"padding": "VALID"},
        {"padding": [(0, 2), (1, 1)]},
        {"kernel_dilation": (2, 2)},
        {"feature_group_count": 2},
        {"padding": 1},
    ],
)
def test_every_option_of_a_layer_gives_what_the_layer_gives(options: dict[str, Any]) -> None:
    x = jax.random.normal(jax.random.key(0), (2, 8, 9, 4))
    own, ours = nn.Conv(6, (3, 3), **options), nn.Conv(6, (3, 3), **options, conv_general_dilated=convolve)
    variables = own.init(jax.random.key(1), x)
    assert jnp.array_equal(_answer(own, variables, x), _answer(ours, variables, x))
    gradients = [jax.grad(lambda v, layer=layer: (_answer(layer, v, x) ** 2).sum())(variables) for layer in (own, ours)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), *gradients)


def _loop(call: Any) -> Any:
    def through(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (jnp.tanh(call(carry, kernel)), None), x, None, length=2)[0].sum()

    return jax.jit(jax.grad(through))


def test_in_a_loop_the_gradients_are_several_times_quicker_than_those_of_jax() -> None:
    """Fourteen times was measured; a bound of three leaves room for other work on the machine."""
    x, kernel, _ = _draw((2, 48, 48, 16), (3, 3, 16, 16), "float32")

    def seconds(call: Any) -> float:
        run = _loop(call)
        run(kernel, x).block_until_ready()
        begun = time.perf_counter()
        run(kernel, x).block_until_ready()
        return time.perf_counter() - begun

    assert min(seconds(_ours) for _ in range(2)) * 3 < seconds(_own)


def _convolutions(call: Any, platform: str, channels: int = 4, dtype: str = "float32") -> list[str]:
    """Roles of the axes and windows of the convolutions in a step's program for a platform, as it is lowered."""
    x, kernel, _ = _draw((2, 8, 8, channels), (3, 3, channels, channels), dtype)
    step = jax.jit(jax.grad(lambda x, k: (call(x, k) ** 2).sum(), (0, 1)))
    text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    return sorted(re.findall(r"stablehlo.convolution\(.*?\) (.*)", text))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_an_accelerator_has_the_gradients_of_jax_and_no_others(platform: str) -> None:
    assert _convolutions(_ours, platform) == _convolutions(_own, platform)
    assert _convolutions(_ours, "cpu") != _convolutions(_own, "cpu")


def test_a_gradient_that_nobody_asks_for_is_not_computed() -> None:
    x, kernel, _ = _draw((2, 8, 8, 4), (3, 3, 4, 4), "float32")
    text = jax.jit(jax.grad(lambda k: (_ours(x, k) ** 2).sum())).lower(kernel).compile().as_text()
    assert text is not None and text.count(" convolution(") == 2  # forward, and the kernel's


def test_a_gradient_takes_as_many_products_as_the_forward_and_what_nobody_asks_for_takes_none() -> None:
    """As the compilers keep it: neither the forward once more, nor the gradient of the images of a first layer."""
    x, kernel, _ = _draw((2, 8, 8, 3), (3, 3, 3, 4), "float32")

    def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(_ours(x, kernel)))

    forward = count.count_macs(_ours, x, kernel)
    assert forward == 2 * 8 * 8 * 9 * 3 * 4
    assert count.count_macs(jax.grad(loss, argnums=(0, 1)), x, kernel) == 3 * forward
    assert count.count_macs(jax.grad(loss, argnums=1), x, kernel) == 2 * forward


def test_products_of_a_scan_that_nothing_uses_are_not_counted() -> None:
    matrix = jnp.ones((4, 4))

    def turns(carry: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        return carry @ matrix, row @ matrix  # 64 and 64

    def last(carry: jax.Array, rows: jax.Array) -> jax.Array:
        return jax.lax.scan(turns, carry, rows)[0]

    arrays = jnp.ones((4, 4)), jnp.ones((5, 4, 4))
    assert count.count_macs(last, *arrays) == 5 * 64
    assert count.count_macs(lambda *x: jax.lax.scan(turns, *x), *arrays) == 5 * 128
