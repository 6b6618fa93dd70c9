"""A convolution's gradient from the compiler against numpy: the least that must be right before anything is trained."""

from __future__ import annotations

import time

import numpy as np

from jaxstroke.diagnosis.finding import Finding

# Rounding alone: sums over 8,192 products in float32.
TOLERANCE = 1e-4


def gradient() -> Finding:
    """The gradient of a 3 x 3 kernel, whose sums over all pixels are where compilers were seen to be wrong."""
    begun = time.monotonic()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 64, 64, 4)).astype(np.float32)
    wanted = rng.standard_normal((2, 64, 64, 8)).astype(np.float32)
    try:
        found = by_compiler(images, wanted)
    except Exception as error:  # whatever the compiler or the device says is what the person must see
        told = f"a convolution's gradient cannot be computed: {type(error).__name__}: {str(error).splitlines()[0]}"
        return Finding("self-test", "problem", told, "update the device's driver, or try JAX_PLATFORMS=cpu")
    return judged(found, by_numpy(images, wanted), time.monotonic() - begun)


def judged(found: np.ndarray, expected: np.ndarray, seconds: float) -> Finding:
    off = float(np.abs(found - expected).max() / np.abs(expected).max())
    facts = {"relative_error": off, "tolerance": TOLERANCE, "seconds": round(seconds, 3)}
    if not off <= TOLERANCE:
        told = f"a convolution's gradient is {off:.1e} off numpy's (at most {TOLERANCE:.0e} is rounding)"
        remedy = "do not train with this; unset XLA_FLAGS, and install the tested versions (constraints/)"
        return Finding("self-test", "problem", told, remedy, facts)
    return Finding(
        "self-test", "ok", f"a convolution's gradient is numpy's within {off:.0e}, {seconds:.1f} s", facts=facts
    )


def by_compiler(images: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    import jax
    import jax.numpy as jnp

    def of(kernel: jax.Array) -> jax.Array:
        out = jax.lax.conv_general_dilated(
            jnp.asarray(images), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )
        return (out * wanted).sum()

    return np.asarray(jax.jit(jax.grad(of))(np.zeros((3, 3, images.shape[-1], wanted.shape[-1]), np.float32)))


def by_numpy(images: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The same in float64: each weight's gradient is the sum of its shifted input with what it is multiplied by."""
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = images.shape[1:3]
    return np.stack([
        np.stack([
            np.einsum("bhwi,bhwo->io", padded[:, y : y + rows, x : x + columns], wanted.astype(np.float64))
            for x in range(3)
        ])
        for y in range(3)
    ])  # fmt: skip
