"""Values as they are written in a command or a file, brought to the type and the range that a field declares.

    batch: Annotated[int, Range(1, 65536)] = 8

is a declaration: `convert` reads the type, then asks the range.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from jaxstroke.errors import UserError, short


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`; with `above`, `least` itself is too little."""

    least: float
    most: float = math.inf
    above: bool = False

    def problem(self, value: float) -> str:
        """What to say of a value outside; empty where it lies inside. (NaN lies outside.)"""
        inside = (value > self.least if self.above else value >= self.least) and value <= self.most
        if inside:
            return ""
        if self.above:
            return f"more than {self.least:g} is needed" + ("" if self.most == math.inf else f", {self.most:g} at most")
        return f"at least {self.least:g} is needed" if self.most == math.inf else f"{self} is expected"

    def __str__(self) -> str:
        return f"a number from {self.least:.10g} to {self.most:.10g}"


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Words of a form; `told` says which, for the message."""

    expression: str
    told: str

    def problem(self, value: str) -> str:
        return "" if re.fullmatch(self.expression, value) else self.told


def convert(value: Any, hint: Any, name: str) -> Any:
    """Brings a value, or its text, to the declared type, or says plainly that it cannot be done."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        plain, *rules = arguments
        value = convert(value, plain, name)
        for problem in (rule.problem(value) for rule in rules):
            if problem:
                raise UserError(f"{name}={short(value)}: {problem}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None or value in ("none", "None", "null"):
            return None
        (hint,) = [one for one in arguments if one is not type(None)]
        return convert(value, hint, name)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise UserError(f"{name}={short(value)}: it must be one of {', '.join(map(str, arguments))}")
        return value
    try:
        return _plain(value, hint, origin, arguments, name)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UserError(f"{name}={short(value)}: {_kind(hint)} is expected here") from None


def _plain(value: Any, hint: Any, origin: Any, arguments: tuple[Any, ...], name: str) -> Any:
    """One value of a type without choices; raises what Python raises where it is none."""
    if hint is bool:
        return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
    if hint is int:
        if isinstance(value, float) and value != int(value):
            raise ValueError
        return int(value)
    if hint is float:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    if hint is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if origin is tuple:
        parts = loose(value) if isinstance(value, str) else value
        parts = [parts] if isinstance(parts, (str, int, float)) else parts
        inner = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else arguments
        if len(inner) != len(parts) or not isinstance(parts, (list, tuple)):
            raise ValueError
        return tuple(convert(part, one, name) for part, one in zip(parts, inner, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        parts = json.loads(value) if isinstance(value, str) else value
        return {str(key): convert(one, arguments[1], f"{name}.{key}") for key, one in parts.items()}
    return _tuples(value)


def _kind(hint: Any) -> str:
    known = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    if typing.get_origin(hint) is tuple:
        return "a list such as 1,2"
    return known.get(hint, 'a group such as {"soft_dice": 1.0}')


def loose(text: str) -> Any:
    """Reads the text of a value whose type is not declared here: JSON where it is JSON, else words."""
    try:
        return _tuples(json.loads(text))
    except (ValueError, RecursionError):
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
