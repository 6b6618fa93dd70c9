"""`python -m jaxstroke.import_weights WEIGHTS --exp NAME -o RUN`: makes a run of PyTorch weights of a twin."""

from __future__ import annotations

import argparse
import os
from importlib import util
from pathlib import Path

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.experiment import catalogue, overrides
from jaxstroke.process import door


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog=command.text("import_weights"),
        description="Make a run folder of a safetensors file or a PyTorch state dict; training goes on from there.",
        epilog=f"Example: {command.text('import_weights')} weights.safetensors --exp dme_isles18 -o runs/imported",
    )
    words.add_argument("weights", metavar="WEIGHTS", type=Path, help=".safetensors, or a state dict (.pt, .pth, .bin)")
    words.add_argument("--exp", metavar="NAME", required=True, help="the experiment whose network the weights are of")
    words.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="a new run folder")
    words.add_argument("--scale", choices=("full", "small"), default="full", help="of the experiment")
    words.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of the experiment")
    return words


def main(arguments: list[str]) -> int:
    words = parser().parse_args(arguments)
    wanted = catalogue.load(words.exp, scale=words.scale)
    wanted = overrides.override(wanted, overrides.parse_assignments(words.set))
    missing = [name for name in ("torch", "safetensors") if util.find_spec(name) is None]
    if missing:
        raise UserError(f"reading PyTorch weights needs {', '.join(missing)}; pip install 'jaxstroke[torch]' brings it")
    from jaxstroke.data.source import ENVIRONMENT
    from jaxstroke.torch_twin.importing import import_weights

    count = import_weights(words.weights, wanted, words.output)
    console.say(f"{count:,} numbers of {words.weights} are the weights of step 0 of {words.output}")
    # Without its data the training would be one on phantoms.
    data = [] if os.environ.get(ENVIRONMENT) else ["--data", "PATH"]
    named = catalogue.as_words(words.exp, words.scale, words.set)
    console.next_command("train", *named, "--out", str(words.output), *data)
    return 0


if __name__ == "__main__":
    door.run(main)
