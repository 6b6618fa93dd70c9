"""`python -m jaxstroke.compile`: compiles a training step for machines one does not have, and prints what it costs."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.experiment import Experiment, catalogue
from jaxstroke.process import door

if TYPE_CHECKING:
    from jaxstroke.compilation.compiling import Cost
    from jaxstroke.compilation.targets import Target

_STILL_EVERY_S = 15.0
_PREFIXES = {-3: "n", -2: "u", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}
_PACKAGES = ("jax", "jaxlib", "flax", "libtpu")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("compile"),
        description="Compile the training step and the forward pass for a machine that is not there. Nothing is run.",
        epilog=f"Example: {command.text('compile')} --exp mdanet_isles18 --target tpu:v5e:2x4",
    )
    parser.add_argument("--exp", metavar="NAME", required=True, help="the experiment; `jaxstroke train --list` has all")
    parser.add_argument("--target", metavar="T", required=True, help="tpu:v5e:2x4, tpu:v5e:16x16, tpu:v4:2x2x2, cpu:8")
    parser.add_argument("--batch-per-chip", type=int, metavar="N", help="examples a chip; else as data.batch needs")
    parser.add_argument("--only", choices=("train", "forward"), help="one of the two programs; else both")
    parser.add_argument("--scale", choices=("full", "small"), default="full", help="small: reduced width and size")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of the experiment")
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of a table")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    experiment = catalogue.asked_for(args.exp, args.scale, args.set)
    from jaxstroke.compilation import targets

    target = targets.parse(args.target)
    targets.prepare(target)
    _note(f"jaxstroke: {experiment.name} ({experiment.scale} scale) for {target.word}; loading jax ...")
    from jaxstroke.compilation import compiling

    own_batch = experiment.data.batch
    experiment = compiling.with_batch(experiment, target, args.batch_per_chip)
    _note(
        f"batch: {experiment.data.batch // target.chips} a chip on {target.chips} chips, "
        f"{experiment.data.batch} in all "
        f"(data.batch of the experiment is {own_batch})"
    )
    found = compiling.costs(experiment, target, [args.only] if args.only else compiling.PROGRAMS, _waiting)
    facts = {**_facts(experiment, own_batch, target, found), "parameters": compiling.parameters(experiment)}
    if args.json:
        console.say(json.dumps(facts, indent=1, allow_nan=False))
        return 0
    _print(target, found)
    console.next_command("train", *catalogue.as_words(args.exp, args.scale, args.set))
    return 0


def _facts(experiment: Experiment, own_batch: int, target: Target, found: dict[str, Cost]) -> dict[str, Any]:
    chip = None if target.chip is None else {**dataclasses.asdict(target.chip), "options": dict(target.chip.options)}
    return {
        "experiment": experiment.name,
        "scale": experiment.scale,
        "target": target.word,
        "chips": target.chips,
        "batch": experiment.data.batch,
        "batch_per_chip": experiment.data.batch // target.chips,
        "own_batch": own_batch,
        "dtype": str(experiment.model.options.get("dtype", "float32")),
        "compiles": True,
        "chip": chip,
        "sending_bandwidth": target.sending_bandwidth,
        "programs": {name: dataclasses.asdict(one) for name, one in found.items()},
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return {**found, "python": sys.version.split()[0]}


def _print(target: Target, found: dict[str, Cost]) -> None:
    chip = target.chip
    has = f" of {chip.memory_bytes / 2**30:.0f} GiB" if chip else ""
    columns = [
        {
            "compiles": f"yes, in {one.compile_s:.0f} s",
            "products": with_unit(one.flops, "FLOP"),
            "memory traffic": with_unit(one.traffic_bytes, "B"),
            "memory needed": f"{one.memory_bytes / 2**30:.2f} GiB{has}",
            **_sent(one),
            **_times(one),
        }
        for one in found.values()
    ]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "-") for column in columns)] for name in names]
    console.say()
    console.table(("on each chip", *found), rows)
    console.say()
    if chip is None:
        console.say("- : a CPU has no one peak to hold the program against, so no time follows; see docs/compile.md.")
    else:
        console.say(
            f"{chip.name}: {chip.flops / 1e12:.0f} TFLOP/s, {chip.memory_bandwidth / 1e9:.0f} GB/s of memory; "
            f"a chip of this slice sends {(target.sending_bandwidth or 0) / 1e9:.0f} GB/s."
        )
        console.say("The time is the least that it can take; docs/compile.md says what is counted and what is not.")
    for name, one in found.items():
        if one.unknown_loops:
            console.warn(f"{name}: {one.unknown_loops} loops do not tell their length; their bodies are counted once")


def _sent(one: Cost) -> dict[str, str]:
    if not one.collectives:
        return {"sent": "nothing"}
    return {
        kind: f"{times} of {with_unit(one.payload_bytes[kind], 'B')}, sends {with_unit(one.sent_bytes[kind], 'B')}"
        for kind, times in one.collectives.items()
    }


def _times(one: Cost) -> dict[str, str]:
    line = one.roofline
    if line is None:
        return {"roofline time": "-", "sending": "-", "efficiency": "-"}
    low, high = line.efficiency_without_overlap, line.efficiency_with_overlap
    return {
        "roofline time": f"{with_unit(line.compute_s, 's')} ({line.bound_by})",
        "sending": with_unit(line.sending_s, "s"),
        "efficiency": f"{100 * low:.1f} to {100 * high:.1f} %",
    }


def with_unit(value: float, unit: str) -> str:
    """Three figures and a decimal prefix.

    >>> with_unit(324.9e9, "FLOP"), with_unit(0.0036, "s"), with_unit(16, "B"), with_unit(0, "B")
    ('325 GFLOP', '3.6 ms', '16 B', '0 B')
    """
    power = min(max(math.floor(math.log10(abs(value)) / 3), -3), 4) if value else 0
    return f"{float(f'{value / 1000**power:.3g}'):g} {_PREFIXES[power]}{unit}"


@contextlib.contextmanager
def _waiting(text: str) -> Iterator[None]:
    """Says what begins and, every few seconds, that it goes on: a compilation takes minutes and tells nothing."""
    _note(f"{text} (minutes for the large networks)")
    begin, ended = time.monotonic(), threading.Event()

    def heartbeat() -> None:
        while not ended.wait(_STILL_EVERY_S):
            _note(f"  still compiling, {time.monotonic() - begin:.0f} s")

    beating = threading.Thread(target=heartbeat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    door.run(main)
