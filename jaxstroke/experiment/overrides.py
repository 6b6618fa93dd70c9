"""An experiment with fields replaced, named by dotted words such as `data.batch`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from jaxstroke.errors import UserError, nearest
from jaxstroke.experiment.fields import Experiment, Model
from jaxstroke.experiment.values import convert, loose


def override(experiment: Experiment, words: Mapping[str, Any]) -> Experiment:
    """Returns the experiment with fields replaced, named by dotted words; values may be text or typed.

    `model.X` for any X but `name` is an option of the network; whether the network has it is checked where the
    network is built.
    """
    for path, value in words.items():
        experiment = _replace(experiment, path.split("."), value, path)
    return experiment


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """Turns `["data.batch=4"]` into `{"data.batch": "4"}`."""
    words = {}
    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        if not sign or not path:
            raise UserError(f"--set {assignment}: write it as FIELD=VALUE, for example --set data.batch=4")
        words[path.strip()] = value.strip()
    return words


def _replace(node: Any, path: list[str], value: Any, whole: str) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(node, Model) and name != "name":
        if name == "options" and rest:
            name, rest = rest[0], rest[1:]
        value = loose(value) if isinstance(value, str) else value
        return dataclasses.replace(node, options={**node.options, name: value})
    if isinstance(node, Mapping):
        hint = type(next(iter(node.values()))) if node else float
        return {**node, ".".join(path): convert(value, hint, whole)}
    hints = typing.get_type_hints(type(node))
    if name not in hints:
        raise UserError(f"{whole}: there is no such field.{nearest(name, hints, prefix=whole[: -len('.'.join(path))])}")
    current = getattr(node, name)
    if rest:
        if not dataclasses.is_dataclass(current) and not isinstance(current, Mapping):
            raise UserError(f"{whole}: {name} is a single value and has no field {'.'.join(rest)}")
        return dataclasses.replace(node, **{name: _replace(current, rest, value, whole)})
    if dataclasses.is_dataclass(current):
        fields = ", ".join(f"{whole}.{field.name}" for field in dataclasses.fields(current))
        raise UserError(f"{whole}: this is a group of fields; name one of {fields}")
    return dataclasses.replace(node, **{name: convert(value, hints[name], whole)})
