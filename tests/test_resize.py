"""The forms of interpolation that are written for the CPU, against the plain products with a matrix."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstroke.models.nn import resize
from jaxstroke.models.nn.resize import resize_bilinear

BOUNDS = {"float32": 1e-6, "float64": 1e-14, "bfloat16": 1e-2}
SHAPES = [(2, 7, 5, 3), (2, 2, 1, 3, 2)]


def _plain(x: jax.Array, *, align_corners: bool) -> np.ndarray:
    """In float64 by numpy, whatever comes in."""
    matrices = [resize.bilinear_matrix(count, 2 * count, align_corners=align_corners) for count in x.shape[-3:-1]]
    return np.einsum("ph,qw,...hwc->...pqc", *matrices, np.asarray(x, float))


def _value_and_gradient(
    function: Callable[[jax.Array], jax.Array], x: jax.Array, g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    value, back = jax.vjp(function, x)
    return value, back(g)[0]


def _distance(found: jax.Array, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(found, float) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_twice_the_size_and_its_gradient_are_the_products_with_the_matrix(
    shape: tuple[int, ...], align_corners: bool, dtype: str
) -> None:
    with jax.enable_x64(dtype == "float64"):
        random = np.random.default_rng(0)
        size = (2 * shape[-3], 2 * shape[-2])
        x = jnp.asarray(random.normal(size=shape), dtype)
        g = jnp.asarray(random.normal(size=(*shape[:-3], *size, shape[-1])), dtype)
        both = jax.jit(
            lambda x, g: _value_and_gradient(
                functools.partial(resize_bilinear, size=size, align_corners=align_corners), x, g
            )
        )
        found, gradient = both(x, g)
        assert found.dtype == x.dtype and found.shape == g.shape
        assert _distance(found, _plain(x, align_corners=align_corners)) <= BOUNDS[dtype]
        assert gradient.dtype == x.dtype and gradient.shape == x.shape
        matrices = [resize.bilinear_matrix(n, 2 * n, align_corners=align_corners) for n in shape[-3:-1]]
        wanted = np.einsum("ph,qw,...pqc->...hwc", *matrices, np.asarray(g, float))
        assert _distance(gradient, wanted) <= BOUNDS[dtype]


def _program(function: Callable[[jax.Array], jax.Array], x: jax.Array, platform: str) -> list[str]:
    """The operations of a step's program for a platform, as it is lowered."""
    step = jax.jit(jax.grad(lambda x: (function(x) ** 2).sum()))
    text = step.trace(x).lower(lowering_platforms=(platform,)).as_text()
    return sorted(line.split("stablehlo.")[1].split()[0] for line in text.splitlines() if " stablehlo." in line)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_an_accelerator_has_the_products_and_no_more(platform: str) -> None:
    x = jnp.ones((2, 6, 8, 4))
    quick = functools.partial(resize_bilinear, size=(12, 16))
    products = functools.partial(resize._resize_by_products, size=(12, 16), align_corners=True)
    count = {
        name: _program(form, x, platform).count("dot_general") for name, form in (("quick", quick), ("plain", products))
    }
    assert count["quick"] == count["plain"] == 4
    assert "dot_general" not in _program(quick, x, "cpu")
    assert not {"pad", "optimization_barrier"} & set(_program(quick, x, platform))
