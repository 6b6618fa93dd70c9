"""`python -m jaxstroke.import_weights WEIGHTS --exp NAME -o RUN`: makes a run of PyTorch weights of a twin."""

from __future__ import annotations

import argparse
import os
from importlib import util
from pathlib import Path

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.experiment import catalogue
from jaxstroke.process import door


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("import_weights"),
        description="Make a run folder of a safetensors file or a PyTorch state dict; training goes on from there.",
        epilog=f"Example: {command.text('import_weights')} weights.safetensors --exp dme_isles18 -o runs/imported",
    )
    parser.add_argument("weights", metavar="WEIGHTS", type=Path, help=".safetensors, or a state dict (.pt, .pth, .bin)")
    parser.add_argument("--exp", metavar="NAME", required=True, help="the experiment whose network the weights are of")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN", help="a new run folder")
    parser.add_argument("--scale", choices=("full", "small"), default="full", help="of the experiment")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of the experiment")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    experiment = catalogue.asked_for(args.exp, args.scale, args.set)
    missing = [name for name in ("torch", "safetensors") if util.find_spec(name) is None]
    if missing:
        raise UserError(f"reading PyTorch weights needs {', '.join(missing)}; pip install 'jaxstroke[torch]' brings it")
    from jaxstroke.data.source import ENVIRONMENT
    from jaxstroke.torch_twin.importing import import_weights

    count = import_weights(args.weights, experiment, args.out)
    console.say(f"{count:,} numbers of {args.weights} are the weights of step 0 of {args.out}")
    # Without its data the training would be one on phantoms.
    data = [] if os.environ.get(ENVIRONMENT) else ["--data", "PATH"]
    named = catalogue.as_words(args.exp, args.scale, args.set)
    console.next_command("train", *named, "--out", str(args.out), *data)
    return 0


if __name__ == "__main__":
    door.run(main)
