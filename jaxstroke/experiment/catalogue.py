"""Experiments by name: the files of `experiments/`, their variants, their small scale.

An experiment file (`experiments/NAME.py`) defines

    EXPERIMENT = Experiment(name="dme_isles18", ...)          # required
    SMALL = {"data.size": 64, ...}                            # what `--scale small` changes
    VARIANTS = {"no_temporal": {"model.temporal": False}}     # NAME_no_temporal, the ablations
    SMALL_VARIANTS = {"narrow": {"model.width": 2}}           # where a variant needs other values at small scale

and its docstring says which paper and table it belongs to, the command, the published figure and the cost.  What a
variant changes stays changed at small scale: its own values stand above those of SMALL.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke.errors import UserError, nearest
from jaxstroke.experiment.fields import Experiment
from jaxstroke.experiment.overrides import override, parse_assignments

PACKAGE = Path(__file__).parent.parent


def folder() -> Path:
    """Where the experiment files lie: beside the package in a checkout, inside it when installed."""
    inside = PACKAGE / "experiments"
    return inside if inside.is_dir() else PACKAGE.parent / "experiments"


def names() -> list[str]:
    """Every experiment's name, variants after the experiment that they vary."""
    found = []
    for path in sorted(folder().glob("[a-z]*.py")):
        file = _load_file(path)
        found += [file.EXPERIMENT.name, *(f"{file.EXPERIMENT.name}_{variant}" for variant in _variants(file))]
    return found


def load(name: str, *, scale: str = "full") -> Experiment:
    """Returns the experiment of that name, at full or small scale; an unknown name names the nearest."""
    if scale not in ("full", "small"):
        raise UserError(f"--scale {scale}: it must be full or small")
    for path in sorted(folder().glob("[a-z]*.py"), key=lambda path: -len(path.stem)):
        if not name.startswith(path.stem):
            continue
        file = _load_file(path)
        variant = name[len(path.stem) + 1 :]
        if variant and variant not in _variants(file):
            continue
        changes = {
            **(getattr(file, "SMALL", {}) if scale == "small" else {}),
            **_variants(file).get(variant, {}),
            **(getattr(file, "SMALL_VARIANTS", {}).get(variant, {}) if scale == "small" else {}),
        }
        return dataclasses.replace(override(file.EXPERIMENT, changes), name=name, scale=scale)
    raise UserError(f"--exp {name}: there is no such experiment.{nearest(name, names())} --list shows them all.")


def asked_for(
    name: str, scale: str, assignments: Sequence[str], fields: Mapping[str, object] | None = None
) -> Experiment:
    """The experiment that a door's words ask for: --exp, --scale, --set, and of `fields` those that are not None.

    With all of them it is made once, and is sound (`fields`): no door looks at --fold, --epochs or a batch by itself.
    """
    given = {path: value for path, value in (fields or {}).items() if value is not None}
    return override(load(name, scale=scale), {**parse_assignments(assignments), **given})


def base(name: str) -> str:
    """The experiment that a variant varies; an experiment that varies none is its own."""
    return max((path.stem for path in folder().glob("[a-z]*.py") if name.startswith(path.stem)), key=len)


def as_words(name: str, scale: str, assignments: Sequence[str]) -> list[str]:
    """What a door was given to name an experiment, to be given to another door.

    >>> as_words("unet_isles18", "small", ["data.batch=4"])
    ['--exp', 'unet_isles18', '--scale', 'small', '--set', 'data.batch=4']
    """
    scaled = [] if scale == "full" else ["--scale", scale]
    return ["--exp", name, *scaled, *(word for one in assignments for word in ("--set", one))]


def small(name: str) -> Mapping[str, Any]:
    """The words that bring an experiment to small scale, for the experiments that build on it."""
    return _load_file(folder() / f"{name}.py").SMALL


def _variants(file: Any) -> Mapping[str, Mapping[str, Any]]:
    return getattr(file, "VARIANTS", {})


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"jaxstroke_experiment_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
