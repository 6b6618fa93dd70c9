"""An experiment as JSON, there and back, and where two experiments differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from jaxstroke.errors import UserError, nearest
from jaxstroke.experiment.fields import Experiment, Group, declared, present_word


def to_json(experiment: Experiment) -> str:
    return json.dumps(dataclasses.asdict(experiment), indent=2, sort_keys=True)


def from_tree(group: type, tree: Any, where: str) -> Any:
    """A group of fields from plain dictionaries, as JSON gives them: unknown fields are an error, missing ones default.

    The group itself brings each value to its type and range.
    """
    if not isinstance(tree, Mapping):
        raise UserError(f"experiment{where}: a group of fields is expected, not {str(tree)[:60]!r}")
    hints = declared(group)
    values = {}
    for name, value in ((present_word(group, name), value) for name, value in tree.items()):
        if name is None:
            continue
        if name not in hints:
            raise UserError(f"experiment{where}: there is no field {name}.{nearest(name, hints)}")
        hint = hints[name]
        grouped = isinstance(hint, type) and issubclass(hint, Group)
        values[name] = from_tree(hint, value, f"{where}.{name}") if grouped else value
    missing = [field.name for field in dataclasses.fields(group) if _required(field) and field.name not in values]
    if missing:
        raise UserError(f"experiment{where}: {missing[0]} is missing")
    return group(**values)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def differences(before: Experiment, now: Experiment) -> dict[str, tuple[Any, Any]]:
    """Returns the fields in which two experiments differ, by the words that set them, with both values."""
    old, new = _flat(dataclasses.asdict(before)), _flat(dataclasses.asdict(now))
    return {
        name.replace("model.options.", "model."): (old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat
