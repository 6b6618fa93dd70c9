"""An experiment as JSON, there and back, and where two experiments differ."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from jaxstroke.errors import UserError, nearest
from jaxstroke.experiment.fields import Experiment
from jaxstroke.experiment.values import convert


def to_json(experiment: Experiment) -> str:
    return json.dumps(dataclasses.asdict(experiment), indent=2, sort_keys=True)


def from_json(text: str) -> Experiment:
    """The inverse of `to_json`; unknown fields are an error, missing ones take their defaults."""
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise UserError(f"the experiment is not readable JSON: {error}") from None
    return _from_tree(Experiment, tree, "")


def _from_tree(kind: type, tree: Any, where: str) -> Any:
    if not isinstance(tree, Mapping):
        raise UserError(f"experiment{where}: a group of fields is expected, not {tree!r}")
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in tree.items():
        if name not in hints:
            raise UserError(f"experiment{where}: there is no field {name}.{nearest(name, hints)}")
        inner = hints[name]
        if dataclasses.is_dataclass(inner):
            values[name] = _from_tree(typing.cast(type, inner), value, f"{where}.{name}")
        else:
            values[name] = convert(value, inner, f"experiment{where}.{name}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UserError(f"experiment{where}: {error}") from None


def differences(one: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    """Returns the fields in which two experiments differ, by the words that set them, with both values."""
    first, second = _flat(dataclasses.asdict(one)), _flat(dataclasses.asdict(other))
    return {
        name.replace("model.options.", "model."): (first.get(name), second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat
