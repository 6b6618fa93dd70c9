"""Values as they are written in a command or a file, brought to the type that a field declares."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from jaxstroke.errors import UserError


def convert(value: Any, hint: Any, name: str) -> Any:
    """Brings a value, or its text, to the declared type, or says plainly that it cannot be done."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or value in ("none", "None", "null"):
            return None
        (hint,) = [one for one in arguments if one is not type(None)]
        return convert(value, hint, name)
    if origin is Literal:
        if value not in arguments:
            raise UserError(f"{name}={value}: it must be one of {', '.join(map(str, arguments))}")
        return value
    try:
        if hint is bool:
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if hint is int:
            if isinstance(value, float) and value != int(value):
                raise ValueError
            return int(value)
        if hint is float:
            return float(value)
        if hint is str:
            return str(value)
        if origin is tuple:
            parts = loose(value) if isinstance(value, str) else value
            parts = [parts] if isinstance(parts, (str, int, float)) else parts
            inner = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else arguments
            if len(inner) != len(parts):
                raise ValueError
            return tuple(convert(part, one, name) for part, one in zip(parts, inner, strict=True))
        if origin is not None and issubclass(origin, Mapping):
            parts = json.loads(value) if isinstance(value, str) else value
            return {str(key): convert(one, arguments[1], name) for key, one in parts.items()}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{name}={value}: {_kind(hint)} is expected here") from None
    return _tuples(value)


def _kind(hint: Any) -> str:
    known = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return known.get(hint, "a list such as 1,2" if typing.get_origin(hint) is tuple else str(hint))


def loose(text: str) -> Any:
    """Reads the text of a value whose type is not declared here: JSON where it is JSON, else words."""
    try:
        return _tuples(json.loads(text))
    except ValueError:
        pass
    if text in ("True", "False"):
        return text == "True"
    if "," in text:
        return tuple(loose(part.strip()) for part in text.split(",") if part.strip())
    return text


def _tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(part) for part in value)
    if isinstance(value, Mapping):
        return {key: _tuples(part) for key, part in value.items()}
    return value
