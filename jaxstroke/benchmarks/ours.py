"""Our own training step and forward: compiled as a training compiles them, timed on a drawn batch."""

from __future__ import annotations

import dataclasses
import functools
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstroke import sharding
from jaxstroke.augment import augment
from jaxstroke.benchmarks.clock import Times, in_turn
from jaxstroke.comparison.batches import draw_batch
from jaxstroke.experiment import Experiment
from jaxstroke.models import apply, count
from jaxstroke.training import program as training
from jaxstroke.training.state import TrainState

_PRODUCT = 2048  # rows and columns of the matrices whose product gives the peak
_STEPS_PER_EPOCH = 100


@dataclasses.dataclass
class Ours:
    """A network ready to step: `train()` and `forward()` return when they are done."""

    experiment: Experiment
    train: Callable[[], None]
    feed: Callable[[dict[str, np.ndarray]], None]  # a step on a batch from the host
    forward: Callable[[], None]
    augmentation: Callable[[], None]  # of a batch, as the step begins with it
    state: Callable[[], TrainState]
    synthetic: dict[str, np.ndarray]
    slices: int  # in a batch
    flops: float  # of a training step: a forward, and twice that backward
    compile_s: float
    compile_from_cache_s: float
    temporaries_bytes: int


def build(experiment: Experiment, *, seed: int = 0) -> Ours:
    """Compiles the step twice, from nothing and from the cache of the first time, and lays out a state and a batch."""
    mesh = sharding.make_mesh()
    built = training.build(experiment, mesh, steps_per_epoch=_STEPS_PER_EPOCH)
    network = built.network
    drawn = {**draw_batch(experiment.data, seed), "index": np.arange(experiment.data.batch)}
    types = {name: shape.dtype for name, shape in apply.abstract_batch(experiment.data).items()}
    synthetic = {name: value.astype(types[name]) for name, value in drawn.items()}
    batch = sharding.to_devices(synthetic, mesh)
    holder = [built.first_state(seed)]

    def lowered() -> Any:
        anew = training.build(experiment, mesh, steps_per_epoch=_STEPS_PER_EPOCH)
        return anew.train.lower(holder[0], batch)

    cold_s, cached_s, program = _compile_twice(lowered)
    answer = functools.partial(apply.forward, network, data=experiment.data)
    predict = jax.jit(lambda variables, rows: answer(variables, rows, one_by_one=sharding.is_one_cpu(mesh)).logits)

    def train(rows: Any = batch) -> None:
        holder[0], figures = program(holder[0], rows)
        figures["loss"].block_until_ready()

    def forward() -> None:
        predict(holder[0].variables(), batch).block_until_ready()

    change = jax.jit(lambda rows: augment(jax.random.key(seed), rows, experiment.augment))

    def augmentation() -> None:
        jax.block_until_ready(change(batch))

    for run in (train, forward, augmentation):
        run()  # compiled, all of it, before anything is timed
    macs = count.count_macs(
        lambda variables, rows: answer(variables, rows).logits,
        built.shapes.variables(),
        batch,
    )
    memory = program.memory_analysis()
    return Ours(
        experiment=experiment,
        train=train,
        feed=lambda rows: train(sharding.to_devices(rows, mesh)),
        forward=forward,
        augmentation=augmentation,
        state=lambda: holder[0],
        synthetic=synthetic,
        slices=experiment.data.batch * experiment.data.kind.slices(experiment.data.depth),
        flops=3 * 2.0 * macs,
        compile_s=cold_s,
        compile_from_cache_s=cached_s,
        temporaries_bytes=int(getattr(memory, "temp_size_in_bytes", 0)),
    )


def _compile_twice(lowered: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds from nothing, seconds with what the first time left in the compilation cache, and the program."""
    from jax.experimental.compilation_cache import compilation_cache

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    seconds, program = [], None
    with tempfile.TemporaryDirectory(prefix="jaxstroke-bench-") as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        try:
            for _ in range(2):
                compilation_cache.reset_cache()
                jax.clear_caches()
                begun = time.perf_counter()
                program = lowered().compile()
                seconds.append(time.perf_counter() - begun)
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()
    return seconds[0], seconds[1], program


def time_steps(ours: Ours, *, rounds: int) -> dict[str, Times]:
    return in_turn({"train": ours.train, "forward": ours.forward, "augmentation": ours.augmentation}, rounds=rounds)


def real_over_synthetic(ours: Ours, batches: Iterator[dict[str, np.ndarray]], *, steps: int, rounds: int) -> float:
    """The speed on what the stream gives over that on one batch which lies in memory already; 1 where it keeps up."""

    def run(of: Callable[[], dict[str, np.ndarray]]) -> Callable[[], None]:
        def several() -> None:
            for _ in range(steps):
                ours.feed(of())

        return several

    keep = ("images", "masks", "distance", "valid", "index")
    real = run(lambda: {name: value for name, value in next(batches).items() if name in keep})
    times = in_turn({"real": real, "synthetic": run(lambda: ours.synthetic)}, rounds=rounds)
    return times["synthetic"].best / times["real"].best


def peak_flops(*, rounds: int = 5) -> float:
    """Multiplications and additions a second of a large float32 matrix product: what the device can do at most."""
    matrix = jnp.full((_PRODUCT, _PRODUCT), 1.0 / math.sqrt(_PRODUCT), jnp.float32)
    product = jax.jit(jnp.matmul)
    times = in_turn({"product": lambda: product(matrix, matrix).block_until_ready()}, rounds=rounds, warm_up=2)
    return jax.device_count() * 2.0 * _PRODUCT**3 / times["product"].best


def peak_memory_bytes() -> int:
    """The most that was in use so far: on the first accelerator, else by this process."""
    told = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in told:
        return int(told["peak_bytes_in_use"])
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux that begins with what the process had that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
