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


def name_programs_of_cpus_by(machine: str) -> None:
    """Names what is compiled for the CPUs of a job alike in all its processes, so that each finds what the first kept.

    JAX puts a fingerprint into the name that differs from process to process there (not on GPUs); it is to tell apart
    machines that cannot run each other's programs, which `machine` must do instead.
    """
    from jax._src import cache_key

    own = cache_key._hash_accelerator_config

    def named(hash_: Any, devices: Any) -> None:
        if all(device.platform == "cpu" for device in devices.flat):
            hash_.update(f"{devices.shape} {machine}".encode())
        else:
            own(hash_, devices)

    cache_key._hash_accelerator_config = named
