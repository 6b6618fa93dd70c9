"""An experiment with fields replaced, named by dotted words such as `data.batch`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from jaxstroke.errors import UserError, nearest
from jaxstroke.experiment.as_json import from_tree
from jaxstroke.experiment.fields import Experiment, Group, Model, declared, present_word
from jaxstroke.experiment.values import loose


def override(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    """Returns the experiment with fields replaced, named by dotted words; values may be text or typed.

    All are replaced together, so that their order does not matter.  `model.X` for any X but `name` is an option of the
    network; whether the network has it is checked where the network is built.
    """
    tree = dataclasses.asdict(experiment)
    for path, value in overrides.items():
        _put(tree, Experiment, path.split("."), value, path)
    return from_tree(Experiment, tree, "")


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Turns `["data.batch=4"]` into `{"data.batch": "4"}`."""
    overrides = {}
    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        if not sign or not path:
            raise UserError(f"--set {assignment}: write it as FIELD=VALUE, for example --set data.batch=4")
        overrides[path.strip()] = value.strip()
    return overrides


def _put(tree: dict[str, Any], group: type, path: list[str], value: Any, dotted: str) -> None:
    name, rest = path[0], path[1:]
    if group is Model and name != "name":
        option = rest[0] if name == "options" and rest else name
        tree["options"] = {**tree["options"], option: loose(value) if isinstance(value, str) else value}
        return
    hints, present = declared(group), present_word(group, name)
    if present is None:
        raise UserError(f"{dotted}: this field is no more; leave it out")
    name = present
    if name not in hints:
        prefix = dotted[: -len(".".join(path))]
        raise UserError(f"{dotted}: there is no such field.{nearest(name, hints, prefix=prefix)}")
    hint = hints[name]
    if isinstance(hint, type) and issubclass(hint, Group):
        if not rest:
            fields = ", ".join(f"{dotted}.{field}" for field in declared(hint))
            raise UserError(f"{dotted}: this is a group of fields; name one of {fields}")
        _put(tree[name], hint, rest, value, dotted)
    elif not rest:
        tree[name] = value
    elif typing.get_origin(hint) is Mapping:
        tree[name] = {**tree[name], ".".join(rest): value}
    else:
        raise UserError(f"{dotted}: {name} is a single value and has no field {'.'.join(rest)}")
