"""An export on disk: the program, what it needs, how to call it, and the report of its check; all of it or nothing.

torch       weights.safetensors, program.pt2, predict.py
onnx        model.onnx, predict.py
stablehlo   program.stablehlo, predict.py
each        experiment.json, rule.json, report.json, and memory.npz where a memory goes from slice to slice
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke import __version__, files
from jaxstroke.errors import UserError
from jaxstroke.experiment import as_json
from jaxstroke.exports import check, scripts
from jaxstroke.exports.check import Runner
from jaxstroke.exports.trained import Trained
from jaxstroke.files import formats
from jaxstroke.inference.ensemble import copies

TARGETS = ("torch", "onnx", "stablehlo")
_OPEN_SIZES = ("torch", "onnx")  # JAX's interpolation is a matrix of fixed size
_PACKAGES = {
    "torch": ("jax", "flax", "torch", "safetensors"),
    "onnx": ("jax", "flax", "torch", "onnx", "onnxscript", "onnxruntime"),
    "stablehlo": ("jax", "flax"),
}
Note = Callable[[str], None]


def require_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: something is there already; choose another -o, or remove it")


def export(trained: Trained, out: Path, target: str, note: Note) -> dict[str, Any]:
    """Writes the export beside its place, checks what was written, and puts it there; returns the report."""
    require_free(out)
    unfinished = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        unfinished.mkdir(parents=True)
        checks, open_size = _write_checked(trained, unfinished, target, note)
        files.write_text(unfinished / "experiment.json", as_json.to_json(trained.experiment) + "\n")
        files.write_text(unfinished / "predict.py", scripts.script(target, trained.data.kind))
        files.write_json(unfinished / "rule.json", _rule(trained))
        if trained.streams:
            _write_memory(unfinished / "memory.npz", trained, target)
        report = _report(trained, target, open_size, checks, unfinished)
        files.write_json(unfinished / "report.json", report)
        if out.is_dir():
            out.rmdir()
        os.replace(unfinished, out)
    except OSError as error:
        raise UserError(f"{out}: the export cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return report


def _write_checked(trained: Trained, folder: Path, target: str, note: Note) -> tuple[list[check.Check], bool]:
    """Writes the program, with open height and width where that gives the right answers; returns the checks too."""
    write = _WRITERS[target]
    if target in _OPEN_SIZES and not trained.fixed_size:
        note(f"writing {target} for any height and width, and checking it")
        try:
            checks = check.check(trained, write(trained, folder, True), open_size=True)
        except ValueError:
            checks = []  # an operation of this network needs the size when it is traced
        if checks and all(one.passed for one in checks):
            return checks, True
    note(f"writing {target} for {trained.data.size} x {trained.data.size}, and checking it")
    checks = check.check(trained, write(trained, folder, False), open_size=False)
    _refuse_if_wrong(checks, target)
    return checks, False


def _refuse_if_wrong(checks: list[check.Check], target: str) -> None:
    wrong = [one for one in checks if not one.passed]
    if wrong:
        told = "; ".join(f"{one.inputs} {'x'.join(map(str, one.shape))}: {one.error:.1e}" for one in wrong)
        raise UserError(
            f"the {target} export does not answer as the JAX network does ({told}, allowed {check.BAR:g}); "
            "what was written is deleted. Please report this with the experiment's name"
        )


def _report(trained: Trained, target: str, open_size: bool, checks: list[check.Check], folder: Path) -> dict[str, Any]:
    shapes = "channels last" if target == "stablehlo" else "channels first"
    steps = f"multiples of {trained.multiple}" if open_size else str(trained.data.size)
    return {
        formats.KEY: formats.EXPORT,
        "jaxstroke": __version__,
        "versions": {name: metadata.version(name) for name in _PACKAGES[target]},
        "target": target,
        "experiment": trained.experiment.name,
        "network": trained.experiment.model.name,
        "weights_of_step": trained.step,
        "trained_on_phantom": trained.trained_on_phantom,
        "not_a_medical_device": True,
        "layout": shapes,
        "batch": "any",
        "height_and_width": steps,
        "inputs": ["images", *trained.memory_names()],
        "outputs": ["probabilities", *trained.memory_names()],
        "rule": f"{trained.rule} ({'calibrated' if trained.calibration else 'the experiment'})",
        "bar": check.BAR,
        "checks": [{**dataclasses.asdict(one), "shape": _laid(one.shape, target)} for one in checks],
        "sha256": {path.name: files.sha256(path) for path in sorted(folder.iterdir())},
    }


def _rule(trained: Trained) -> dict[str, Any]:
    """What is done to the program's answers, as `predict.py` reads it, and what else was calibrated."""
    found = trained.calibration
    mirrored = copies(trained.experiment.augment) if found and found.mirrored else [()]
    return {
        **dataclasses.asdict(trained.rule),
        "temperature": found.temperature if found else 1.0,
        "copies": [[{1: "rows", 2: "columns"}[axis] for axis in flips] for flips in mirrored],
        "calibrated": found is not None,
        "volume_intervals": {"level": found.level, "residuals": found.residuals} if found else None,
        "seen_in_training": found.seen if found else None,
    }


def _laid(shape: Sequence[int], target: str) -> list[int]:
    """The shape of images in the order in which the program takes them."""
    *lead, height, width, channels = shape
    if target == "stablehlo":
        return list(shape)
    return [*lead[:1], channels, *lead[1:], height, width]


def _write_memory(path: Path, trained: Trained, target: str) -> None:
    """The memory of one subject before its first slice, in the layout of the program."""
    from jaxstroke.exports import torch_program

    leaves = trained.initial_memory(1, trained.data.size)
    if target != "stablehlo":
        leaves = [torch_program.memory_to_torch(leaf).numpy() for leaf in leaves]
    named = dict(zip(trained.memory_names(), leaves, strict=True))
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **named)


def _described(trained: Trained) -> dict[str, str]:
    return {formats.IN_WEIGHTS: str(formats.EXPORT), "jaxstroke": __version__, "experiment": trained.experiment.name}


def _torch(trained: Trained, folder: Path, open_size: bool) -> Runner:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from jaxstroke.exports import torch_program

    twin = torch_program.twin_of(trained)
    program = torch_program.trace(trained, torch_program.module_of(trained, twin), open_size=open_size)
    try:
        save_file(twin.state_dict(), folder / "weights.safetensors", metadata=_described(trained))
        torch.export.save(program, folder / "program.pt2")
    except (SafetensorError, RuntimeError):  # what these libraries make of a full disk
        raise OSError("no space left there, or it may not be written to") from None
    return torch_program.load(folder / "program.pt2", trained)


def _onnx(trained: Trained, folder: Path, open_size: bool) -> Runner:
    from jaxstroke.exports import onnx_program, torch_program

    module = torch_program.module_of(trained, torch_program.twin_of(trained))
    program = torch_program.trace(trained, module, open_size=open_size)
    onnx_program.write(folder / "model.onnx", program, trained)
    return onnx_program.load(folder / "model.onnx", trained)


def _stablehlo(trained: Trained, folder: Path, open_size: bool) -> Runner:
    del open_size  # never asked for, see `_OPEN_SIZES`
    from jaxstroke.exports import stablehlo

    stablehlo.write(folder / "program.stablehlo", trained)
    return stablehlo.load(folder / "program.stablehlo")


# Each writes its files for open height and width or not, and returns how they are run from there.
_WRITERS: dict[str, Callable[[Trained, Path, bool], Runner]] = {"torch": _torch, "onnx": _onnx, "stablehlo": _stablehlo}
