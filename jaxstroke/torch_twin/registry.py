"""Which networks have a twin, and how one is built from the options of its Linen network.

A twin is one file of `networks/`, with the name of the file of `jaxstroke.models` that it mirrors.  It defines
`TWIN = Twin(name, module, small=Small(...))`.  The module's arguments are the fields of the Linen module, and `groups`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen
from torch import nn

from jaxstroke.errors import UserError
from jaxstroke.torch_twin import networks

# Fields of Linen modules that say how they are computed, not what.
_COMPUTED_ALIKE = {"dtype", "axis_name", "remat", "parent", "name"}


@dataclasses.dataclass(frozen=True)
class Small:
    """A size at which a network is compared in seconds; what it leaves open is that of the recipe."""

    size: int
    options: Mapping[str, Any]
    depth: int = 3


@dataclasses.dataclass(frozen=True)
class Twin:
    name: str
    module: Callable[..., nn.Module]
    small: Small


@functools.cache
def twins() -> dict[str, Twin]:
    names = [file.name for file in pkgutil.iter_modules(networks.__path__)]
    found = [importlib.import_module(f"{networks.__name__}.{name}").TWIN for name in names]
    return {twin.name: twin for twin in found}


def find(name: str) -> Twin:
    if name not in twins():
        raise UserError(
            f"{name}: this network has no PyTorch twin yet, so it cannot be compared or exported to PyTorch; "
            f"those with one: {', '.join(sorted(twins()))}"
        )
    return twins()[name]


def build(name: str, network: flax.linen.Module, groups: tuple[int, ...]) -> nn.Module:
    """Builds the twin of a Linen module; every field that says what is computed must have its argument."""
    fields = {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}
    options = {word: value for word, value in fields.items() if word not in _COMPUTED_ALIKE}
    module = find(name).module
    if "groups" in inspect.signature(module).parameters:
        options["groups"] = groups
    return module(**options).eval()
