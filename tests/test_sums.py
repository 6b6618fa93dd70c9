"""Sums over pixels, and the layers that are made of them, against JAX's and Flax's own."""

from __future__ import annotations

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
from jaxstroke.models.nn import norm
from jaxstroke.models.nn.blocks import TORCH_KERNEL, Convolution, DoublingConvolution
from jaxstroke.models.nn.sums import biased, over_pixels, standardised, to_pixels

BOUNDS = {"float32": 2e-6, "float64": 1e-13, "bfloat16": 4e-2}


def _draw(dtype: str, *shapes: tuple[int, ...], seed: int = 0) -> list[jax.Array]:
    random = np.random.default_rng(seed)
    return [jnp.asarray(random.normal(size=shape) + 0.5, dtype) for shape in shapes]


def _agree(ours: Callable[..., Any], own: Callable[..., Any], dtype: str, *given: Any) -> None:
    """Values, and gradients for every argument, by the length of each."""
    shapes = jax.eval_shape(own, *given)
    ct = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(9).normal(size=leaf.shape), leaf.dtype), shapes)

    def both(call: Callable[..., Any], ct: Any, *given: Any) -> list[jax.Array]:
        value, back = jax.vjp(call, *given)
        return jax.tree.leaves((value, back(ct)))

    each = (jax.jit(both, static_argnums=0)(call, ct, *given) for call in (ours, own))
    for found, expected in zip(*each, strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        apart = np.linalg.norm(np.asarray(found - expected, float)) / np.linalg.norm(np.asarray(expected, float))
        assert apart <= BOUNDS[dtype], (dtype, found.shape, apart)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@settings(max_examples=6, deadline=None)
@given(batch=st.integers(1, 3), space=st.lists(st.integers(1, 6), min_size=1, max_size=3), channels=st.integers(1, 5))
def test_they_are_the_sums_and_the_gradients_of_jax(dtype: str, batch: int, space: list[int], channels: int) -> None:
    with jax.enable_x64(dtype == "float64"):
        shape = (batch, *space, channels)
        x, mean, factor, shift, bias = _draw(dtype, shape, *((batch, channels),) * 3, (channels,))
        pixels = tuple(range(1, len(shape) - 1))
        _agree(over_pixels, lambda x: x.sum(pixels), dtype, x)
        _agree(biased, lambda x, bias: x + jnp.broadcast_to(bias, x.shape), dtype, x, bias)

        def plain(x: jax.Array, *each: jax.Array) -> jax.Array:
            mean, factor, shift = (to_pixels(one, x.ndim) for one in each)
            return (x - mean) * factor + shift

        _agree(standardised, plain, dtype, x, mean, factor, shift)


def test_a_sum_of_many_pixels_is_nearer_to_the_truth_than_one_after_another() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (1, 256, 256, 3)).astype(np.float32)
    true = x.astype(float).sum((1, 2))
    one_by_one = x.reshape(-1, 3).cumsum(0, dtype=np.float32)[-1]
    assert np.abs(over_pixels(jnp.asarray(x)) / true - 1).max() < 1e-6 < np.abs(one_by_one / true - 1).max()


def _variables(own: Any, ours: Any, dtype: Any) -> Any:
    """The first weights and statistics, which are the same to the bit; in the width that is asked for."""
    jax.tree.map(np.testing.assert_array_equal, dict(own), dict(ours))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), own)


@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (3, 2, 5, 4, 6)])
def test_batch_normalisation_is_that_of_flax(shape: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        (x,) = _draw("float64", shape)
        own, ours = nn.BatchNorm(momentum=0.8, epsilon=1e-3), norm.BatchNorm(momentum=0.8, epsilon=1e-3)
        first = ours.init(jax.random.key(3), x, train=False)
        drawn = own.init(jax.random.key(3), x, use_running_average=True)
        variables = _variables(drawn, {kind: tree["norm"] for kind, tree in first.items()}, x.dtype)
        statistics = variables["batch_stats"]

        def of_flax(params: Any, x: jax.Array) -> Any:
            inner = {"params": params, "batch_stats": statistics}
            y, changed = own.apply(inner, x, use_running_average=False, mutable=["batch_stats"])
            return y, changed["batch_stats"]

        def answer(params: Any, x: jax.Array) -> Any:
            inner = {"params": {"norm": params}, "batch_stats": {"norm": statistics}}
            y, changed = ours.apply(inner, x, train=True, mutable=["batch_stats"])
            return y, changed["batch_stats"]["norm"]

        _agree(answer, of_flax, "float64", variables["params"], x)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_normalisation_is_that_of_flax(groups: int) -> None:
    with jax.enable_x64(True):
        (x,) = _draw("float64", (3, 5, 4, 6))
        _alike(norm.GroupNorm(groups, 1e-4), nn.GroupNorm(groups, epsilon=1e-4, use_fast_variance=False), x)


def test_a_doubling_convolution_is_that_of_flax() -> None:
    with jax.enable_x64(True):
        (x,) = _draw("float64", (2, 5, 4, 6))
        _alike(
            DoublingConvolution(3, TORCH_KERNEL),
            nn.ConvTranspose(3, (2, 2), (2, 2), "VALID", kernel_init=TORCH_KERNEL),
            x,
        )


def _alike(ours: nn.Module, own: nn.Module, x: jax.Array) -> None:
    first, drawn = (layer.init(jax.random.key(3), x) for layer in (ours, own))
    _agree(ours.apply, own.apply, "float64", _variables(drawn, first, x.dtype), x)


@pytest.mark.parametrize(
    ("shape", "window", "stride", "padding"),
    [((2, 7, 6, 3), (3, 3), 1, 1), ((2, 7, 6, 3), (3, 3), 2, 1), ((2, 3, 7, 6, 3), (1, 1), 1, 0),
     ((2, 3, 5, 6, 2), (3, 3, 3), 1, 1)],
)  # fmt: skip
def test_a_convolution_is_that_of_flax(
    shape: tuple[int, ...], window: tuple[int, ...], stride: int, padding: int
) -> None:
    """With the axes of a batch alone or of a clip before the map."""
    with jax.enable_x64(True):
        (x,) = _draw("float64", shape)
        shared: dict[str, Any] = {"kernel_init": TORCH_KERNEL, "bias_init": nn.initializers.normal()}
        _alike(
            Convolution(4, window, stride, padding, **shared),
            nn.Conv(4, window, strides=stride, padding=padding, **shared),
            x,
        )


def _steps(platform: str) -> str:
    x, mean, factor, shift, bias = _draw("float32", (2, 8, 6, 4), *((2, 4),) * 3, (4,))

    def loss(*given: jax.Array) -> jax.Array:
        x, bias, *each = given
        return jnp.sum(standardised(biased(x, bias), *each) ** 2) + jnp.sum(over_pixels(x) ** 2)

    step = jax.jit(jax.grad(loss, (0, 1, 2, 3, 4)))
    return step.trace(x, bias, mean, factor, shift).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_only_a_cpu_sums_by_products(platform: str) -> None:
    assert ("stablehlo.dot_general" in _steps(platform)) is (platform == "cpu")


def test_a_program_of_open_sizes_sums_too() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 2)).astype(np.float32)
    shape = jax.export.symbolic_shape("batch, height, width, 2")
    exported = jax.export.export(jax.jit(over_pixels), platforms=("cpu", "cuda"))(jax.ShapeDtypeStruct(shape, x.dtype))
    np.testing.assert_allclose(exported.call(x), x.sum((1, 2)), rtol=1e-5, atol=1e-5)


def test_sums_are_no_operations_that_publications_count() -> None:
    (x,) = _draw("float32", (2, 8, 8, 4))
    assert count.count_macs(jax.grad(lambda x: (over_pixels(x) ** 2).sum()), x) == 0
