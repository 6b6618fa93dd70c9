"""What is taken from inside JAX, where no public name does the same: here alone.

`tests/test_jax_internals.py` says so when JAX moves it.
"""

from __future__ import annotations

from typing import Any


def coordination_client() -> Any:
    """Of the processes of a job; the public ways to wait go over the devices, whose sums give up long before a large
    data set is prepared."""
    from jax._src import distributed

    return distributed.global_state.client


def decompress_executable(program: bytes) -> bytes:
    """A compiled program as JAX reads it from its cache; raises zlib's or zstandard's own error where it is damaged."""
    from jax._src import compilation_cache

    return compilation_cache.decompress_executable(program)


def compress_executable(program: bytes) -> bytes:
    """As JAX writes it."""
    from jax._src import compilation_cache

    return compilation_cache.compress_executable(program)
