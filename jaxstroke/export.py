"""`python -m jaxstroke.export RUN -o DIR`: writes a trained network for PyTorch, ONNX or StableHLO, and checks it."""

from __future__ import annotations

import argparse
import os
import shlex
from importlib import util
from pathlib import Path
from typing import Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door

# What each target needs beside jaxstroke itself, and the extra that brings it.
_NEEDS = {
    "torch": (("torch", "safetensors"), "torch"),
    "onnx": (("torch", "onnx", "onnxscript", "onnxruntime"), "onnx"),
    "stablehlo": ((), ""),
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("export"),
        description="Write a trained network as a program that needs nothing of jaxstroke, and check what was written.",
        epilog=f"Example: {command.text('export')} runs/dme_isles18 -o exported --to onnx",
    )
    parser.add_argument("run", metavar="RUN", help="the run folder that train wrote")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--to", choices=tuple(_NEEDS), default="torch", help="the program's kind (torch)")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    packages, extra = _NEEDS[args.to]
    missing = [name for name in packages if util.find_spec(name) is None]
    if missing:
        raise UserError(f"--to {args.to} needs {', '.join(missing)}; pip install 'jaxstroke[{extra}]' brings it")
    # The check compares roundings, and what is exported does not depend on where it is traced.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from jaxstroke.exports import folder
    from jaxstroke.exports.trained import read_run

    folder.require_free(args.out)
    trained = read_run(Path(args.run))
    console.say(f"{trained.experiment.name}: weights of step {trained.step}")
    report = folder.export(trained, args.out, args.to, console.say)
    _tell(report, args.out)
    return 0


def _tell(report: dict[str, Any], out: Path) -> None:
    rows = [[one["inputs"], "x".join(map(str, one["shape"])), f"{one['error']:.1e}"] for one in report["checks"]]
    title = f"against the JAX network, at most {report['bar']:g}"
    console.table(("inputs", "images", "||a - b|| / ||b||"), rows, title=title)
    if report["trained_on_phantom"]:
        console.say(f"*** {console.TRAINED_ON_PHANTOMS} ***")
    console.say(
        f"written to {out}: {', '.join(report['sha256'])}, report.json; {report['layout']}, any batch, "
        f"height and width {report['height_and_width']}"
    )
    console.say(f"next: cd {shlex.quote(str(out))} && {shlex.quote(command.python())} predict.py IMAGES.npy")


if __name__ == "__main__":
    door.run(main)
