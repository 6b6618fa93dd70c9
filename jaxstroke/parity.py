"""`python -m jaxstroke.parity`: compares every network with its PyTorch twin: forward, gradients, ten steps."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door

if TYPE_CHECKING:
    from jaxstroke.comparison.differences import Comparison
    from jaxstroke.torch_twin.place import Place

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("parity"),
        description="Compare every network with its PyTorch twin on the same drawn weights and batches.",
    )
    parser.add_argument("--network", metavar="N", help="only this network, or one line of `jaxstroke networks`")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="both libraries compute there (cpu)")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    parser.add_argument("--full", action="store_true", help="at the sizes and widths of the papers")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of weights and batches (0)")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    if util.find_spec("torch") is None:
        raise UserError("PyTorch is not installed; pip install 'jaxstroke[torch]' brings it")
    # Both libraries share the card, so neither may take all of it at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if args.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    from jaxstroke.torch_twin import place

    here = place.find(args.device)
    if here.why_not:
        console.warn(f"{here.why_not}; both libraries run on the CPU")
    versions = {name: metadata.version(name) for name in _PACKAGES}
    about = {"device": f"{here.name} ({here.kind})", **versions, "seed": args.seed}
    _note(", ".join(f"{name} {value}" for name, value in about.items()))
    with place.full_float32():
        lines = _compare(args, here)
    if args.json:
        console.say(json.dumps([_plain({**line, "about": about}) for line in lines], indent=2, allow_nan=False))
    else:
        _print(lines, about)
        console.next_command("export", "RUN", "-o", "exported")
    return 1 if any(line["missed"] for line in lines) else 0


def _compare(args: argparse.Namespace, here: Place) -> list[dict[str, Any]]:
    from jaxstroke.comparison import specimen as specimens
    from jaxstroke.comparison.differences import compare
    from jaxstroke.models import registry

    devices: dict[str, Any] = {"jax_device": here.jax_device, "torch_device": here.torch_device}
    lines = []
    for name in [args.network] if args.network else sorted(registry.networks()):

        def note(text: str, name: str = name) -> None:
            _note(f"{name}: {text}")

        one = specimens.specimen(name, full=args.full)
        line = _line(compare(one, seed=args.seed, note=note, **devices))
        lines.append(line)
    return lines


def _line(found: Comparison) -> dict[str, Any]:
    """The figures of float32 by their names, those of float64 with `_float64` behind them."""
    line = dataclasses.asdict(found)
    rounded, exact = line.pop("float32"), line.pop("float64")
    worst = rounded.pop("worst") | {f"{name}_float64": array for name, array in exact.pop("worst").items()}
    figures = rounded | {f"{name}_float64": figure for name, figure in exact.items()}
    return {**line, **figures, "worst": worst, "above": found.above(), "missed": found.missed()}


def _print(lines: Sequence[dict[str, Any]], about: dict[str, Any]) -> None:
    from jaxstroke.comparison.differences import BARS, BARS_FLOAT64

    narrow = ("forward", "loss", "gradients", "statistics", "ten_steps", "bfloat16")
    wide = ("gradients_float64", "statistics_float64", "ten_steps_float64")
    rows = [
        [line["network"], line["recipe"], f"{line['parameters']:,}"]
        + [_figure(line[name]) + _mark(name, line) for name in (*narrow, *wide)]
        for line in lines
    ]
    console.say(f"JAX against PyTorch on {about['device']}, largest ||a - b|| / ||b||; float32 without TF32")
    console.say(", ".join(f"{name} {value}" for name, value in about.items() if name != "device"))
    console.say()
    titles = ("float64: gradients", "statistics", "ten_steps")
    console.table(("network", "recipe", "parameters", *narrow, *titles), rows)
    console.say()
    console.say(f"Bars: {_bars(BARS)}; in float64 {_bars(BARS_FLOAT64)}.")
    console.say("! above its bar. ~ above it in float32 alone: in float64 the two agree, so it is rounding.")
    console.say("docs/parity.md explains every column.")
    for line in lines:
        for name in line["above"]:
            console.say(f"{line['network']}: {name} {_figure(line[name])} is that of {line['worst'][name]}")


def _bars(bars: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {bar:g}" for name, bar in bars.items())


def _plain(value: Any) -> Any:
    """As JSON has it: null for a figure that is not finite, which `missed` names."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mark(name: str, line: dict[str, Any]) -> str:
    return "!" if name in line["missed"] else "~" if name in line["above"] else ""


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    door.run(main)
