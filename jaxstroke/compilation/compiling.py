"""Compiles the steps of an experiment for a machine that is not there, and reads what they cost."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from jaxstroke.compilation import collectives, hlo, targets, traffic
from jaxstroke.compilation.collectives import Collective
from jaxstroke.compilation.fitting import largest
from jaxstroke.compilation.roofline import Roofline, roofline
from jaxstroke.compilation.targets import GIB, Target
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment
from jaxstroke.experiment.overrides import override
from jaxstroke.models import apply, count
from jaxstroke.training import program as training

PROGRAMS = ("train", "forward")
Note = Callable[[str], Any]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one call of a compiled program needs, on each chip.

    Attributes:
      flops: of convolutions and matrix products as the program is written, a loop as often as it runs.
      traffic_bytes: to and from the main memory (`traffic`).
      compiler_flops, compiler_bytes: the compiler's own figures, which count a loop's body once, and as bytes also
        what stays on the chip.
      memory_bytes: arguments, results, temporaries and the program, at once.
      sent_bytes: what a chip sends round rings, by kind of collective; `payload_bytes` the arrays that it is about.
      unknown_loops: loops whose length the text does not tell; their bodies are counted once.
    """

    compile_s: float
    flops: float
    traffic_bytes: float
    compiler_flops: float
    compiler_bytes: float
    memory_bytes: int
    collectives: dict[str, int]
    payload_bytes: dict[str, int]
    sent_bytes: dict[str, float]
    unknown_loops: int
    roofline: Roofline | None


class DoesNotFit(Exception):
    """The program needs more memory than the chip has: `need_bytes` (infinity if not told) of `limit_bytes`."""

    def __init__(self, need_bytes: float, limit_bytes: float) -> None:
        super().__init__(need_bytes, limit_bytes)
        self.need_bytes, self.limit_bytes = need_bytes, limit_bytes


def with_batch(experiment: Experiment, target: Target, per_chip: int | None) -> Experiment:
    """The experiment with so many examples a chip; by default the fewest that make the experiment's own batch."""
    per_chip = -(-experiment.data.batch // target.chips) if per_chip is None else per_chip
    if per_chip < 1:
        raise UserError(f"--batch-per-chip {per_chip}: at least 1 is needed")
    return override(experiment, {"data.batch": per_chip * target.chips})


def costs(experiment: Experiment, target: Target, programs: Sequence[str], note: Note) -> dict[str, Cost]:
    """Compiles programs of an experiment; `note` is told what begins, and gives a context that lasts as long."""
    if experiment.parallel.map != "jit":
        raise UserError(
            f"parallel.map={experiment.parallel.map}: only the jitted step can be compiled for a machine that is not "
            "there; leave it at jit"
        )
    mesh = targets.mesh(target)
    found = {}
    for name in programs:
        try:
            found[name] = cost(name, experiment, target, mesh, note)
        except DoesNotFit as error:
            raise UserError(refusal(name, experiment, target, mesh, error, note)) from None
    return found


def cost(name: str, experiment: Experiment, target: Target, mesh: Mesh, note: Note) -> Cost:
    """Compiles one program and reads it; raises `DoesNotFit` where the chip's memory does not suffice."""
    per_chip = experiment.data.batch // target.chips
    with note(f"compiling {name}: {experiment.model.name}, {per_chip} a chip on {target.chips} chips"):
        function, arguments = program(name, experiment, mesh)
        macs = count.jaxpr_macs(jax.make_jaxpr(function)(*arguments).jaxpr)
        lowered = function.lower(*arguments)
        begin = time.monotonic()
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            raise exhausted(str(error), target) or error from None
        seconds = time.monotonic() - begin
    return read(compiled, target, flops=2 * macs / target.chips, compile_s=seconds)


def program(name: str, experiment: Experiment, mesh: Mesh) -> tuple[Any, tuple[Any, Any]]:
    """A jitted step over a mesh, and the shapes that it takes."""
    # How long an epoch is does not change what the program costs.
    built = training.build(experiment, mesh, steps_per_epoch=experiment.training.steps_per_epoch or 1)
    function = {"train": built.train, "forward": built.validate}[name]
    return function, (built.shapes, apply.abstract_batch(experiment.data))


def parameters(experiment: Experiment) -> int:
    """The number of trained weights: as many numbers as a gradient has."""
    network = apply.build(experiment)
    key = jax.random.key(0)
    return count.parameters(jax.eval_shape(lambda: apply.initialise(network, experiment.data, key)))


def read(compiled: Any, target: Target, *, flops: float, compile_s: float = 0.0) -> Cost:
    """What a compiled program needs; `flops` are those of the program as it is written, on each chip."""
    memory, told = compiled.memory_analysis(), compiled.cost_analysis()
    need = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    need += memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    if target.chip is not None and need > target.chip.memory_bytes:
        raise DoesNotFit(need, target.chip.memory_bytes)
    text = hlo.parse(compiled.as_text())
    moved, sent = traffic.traffic_bytes(text), collectives.find(text, target.chips)
    by_kind = _by_kind(sent)
    # The compiler counts what is not a product as well; the larger figure is the one to reckon with.
    work = max(flops, told["flops"])
    return Cost(
        compile_s=compile_s,
        flops=flops,
        traffic_bytes=moved,
        compiler_flops=told["flops"],
        compiler_bytes=told["bytes accessed"],
        memory_bytes=need,
        collectives={kind: sum(one.times for one in some) for kind, some in by_kind.items()},
        payload_bytes={kind: sum(one.times * one.payload_bytes for one in some) for kind, some in by_kind.items()},
        sent_bytes={kind: sum(one.sent_bytes for one in some) for kind, some in by_kind.items()},
        unknown_loops=text.runs()[1],
        roofline=roofline(target, flops=work, traffic_bytes=moved, sent_bytes=sum(one.sent_bytes for one in sent)),
    )


def _by_kind(found: list[Collective]) -> dict[str, list[Collective]]:
    by_kind: dict[str, list[Collective]] = defaultdict(list)
    for one in found:
        by_kind[one.kind].append(one)
    return dict(by_kind)


# What the TPU compiler says in its two manners: `Used 35.21G of 15.75G hbm`, and
# `total memory required for HLO temporaries (41.97G) exceeds available HBM (15.75G)`.
_TOO_MUCH = re.compile(r"(?:[Uu]sed |required [^()]*\()([\d.]+)([KMGT])\)? (?:of|exceeds [^()]*\()\s?([\d.]+)([KMGT])")
_UNIT = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def exhausted(message: str, target: Target) -> DoesNotFit | None:
    """Reads the need and the limit out of the compiler's refusal; None if it refused for another reason."""
    if "RESOURCE_EXHAUSTED" not in message or target.chip is None:
        return None
    told = _TOO_MUCH.search(message)
    if told is None:
        return DoesNotFit(math.inf, target.chip.memory_bytes)
    return DoesNotFit(float(told[1]) * _UNIT[told[2]], float(told[3]) * _UNIT[told[4]])


def refusal(name: str, experiment: Experiment, target: Target, mesh: Mesh, error: DoesNotFit, note: Note) -> str:
    """One line that says what does not fit and what would; the largest batch that fits is found by compiling."""
    asked = experiment.data.batch // target.chips

    def need_bytes(per_chip: int) -> float:
        smaller = with_batch(experiment, target, per_chip)
        try:
            # What the compiler has accepted fits, whatever is added up here.
            return min(cost(name, smaller, target, mesh, note).memory_bytes, error.limit_bytes)
        except DoesNotFit as again:
            return max(again.need_bytes, error.limit_bytes + 1)

    fits = largest(need_bytes, error.limit_bytes, asked, error.need_bytes)
    needs = f"needs {error.need_bytes / GIB:.2f} GiB" if math.isfinite(error.need_bytes) else "needs too much memory"
    told = (
        f"{experiment.name} on {target.word}: {name} with {asked} a chip {needs}, and a chip offers "
        f"{error.limit_bytes / GIB:.2f} GiB; "
    )
    if not fits:
        return told + "even 1 a chip does not fit; try --set model.remat=true, model.dtype=bfloat16 or a smaller width"
    batch = fits * target.chips
    return told + f"the largest batch that fits is {fits} a chip ({batch} in all): --batch-per-chip {fits}"
