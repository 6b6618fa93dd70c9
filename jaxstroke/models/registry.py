"""Which systems there are, and how one is built from its name and options.

A network is one file of this folder.  It defines

    NETWORK = Network(name, module, example)       # the Linen module, and what it takes
    CATALOGUE = (Entry(...), ...)                  # the lines that `python -m jaxstroke.networks` shows for it

Files are found by looking, so adding a network changes no other file.  A system without weights (a threshold
rule) defines `RULES = (Rule(...), ...)` instead.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn

import jaxstroke.models
from jaxstroke.errors import UserError, nearest
from jaxstroke.experiment import Model, kinds
from jaxstroke.experiment.values import Range, convert

# Options that a network need not have a field for: `apply` sees to them where it has none.
_OF_EVERY_NETWORK = {"remat": bool}

# What an option may be where its module declares no range of its own.
_WHOLE = Annotated[int, Range(1, 4096)]
_SHARE = Annotated[float, Range(0.0, 1.0)]
_RANGED: dict[Any, Any] = {int: _WHOLE, float: _SHARE, tuple[int, ...]: tuple[_WHOLE, ...]}

# What a network may be told to compute in.
_DTYPE = Literal["float32", "bfloat16", "float16"] | None

# Linen fields that the experiment, the mesh or Flax decides, not the options of the model.
_GIVEN = ("groups", "targets", "size", "axis_name", "parent", "name", "scope")


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that can be trained.

    `example` says what one example is: a slice (H, W, C), a clip of slices (T, H, W, C), a volume (D, H, W, C), or
    a series of time points of one slice and of its mirror image (T, H, W, 2).  The module's fields are its options; of
    these `groups` (channels in each modality group), `targets` (targets) and `size` (pixels) are filled in from the
    experiment where the module has them.  `multiple` is what height and width must be divisible by.
    """

    name: str
    module: Callable[..., nn.Module]
    example: kinds.Word
    multiple: int = 1


@dataclasses.dataclass(frozen=True)
class Published:
    """What a paper prints for a network; None where it says nothing. `note` says how to read it."""

    source: str
    parameters: float | None = None
    mib: float | None = None
    gmac: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of the listing: a network or one variant of it, at the input that the paper counts."""

    name: str
    network: str
    size: int  # height and width
    groups: tuple[int, ...]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    depth: int = 1  # slices, or time points
    targets: int = 1
    published: tuple[Published, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rule:
    """A system without weights: a rule on images in physical units.

    `predict(images, head, spacing_mm)` takes the images by modality word, each (D, H, W), in the units that the data
    set's layout declares, and the head (D, H, W) bool that preparation finds in them.  It returns a score in 0..1 of
    shape (D, H, W) that is thresholded at one half, and is 0 outside the head.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    predict: Callable[..., Any]


@functools.cache
def _files() -> tuple[Any, ...]:
    folder = pkgutil.iter_modules(jaxstroke.models.__path__)
    found = (importlib.import_module(f"jaxstroke.models.{file.name}") for file in folder if not file.ispkg)
    return tuple(found)


@functools.cache
def networks() -> dict[str, Network]:
    return {file.NETWORK.name: file.NETWORK for file in _files() if hasattr(file, "NETWORK")}


@functools.cache
def catalogue() -> tuple[Entry, ...]:
    return tuple(entry for file in _files() for entry in getattr(file, "CATALOGUE", ()))


@functools.cache
def rules() -> dict[str, Rule]:
    return {rule.name: rule for file in _files() for rule in getattr(file, "RULES", ())}


def find(name: str) -> Network:
    if name not in networks():
        raise UserError(f"model.name={name}: there is no such network.{nearest(name, networks())}")
    return networks()[name]


def build(model: Model, *, groups: tuple[int, ...], targets: int, size: int, **fields: Any) -> nn.Module:
    """Builds the Linen module; an unknown or ill-typed option names the nearest ones.

    `fields` are further module fields (such as `axis_name`), set where the module has them.
    """
    network = find(model.name)
    if size % network.multiple:
        below = size // network.multiple * network.multiple
        raise UserError(
            f"data.size={size}: {network.name} takes sizes that {network.multiple} divides, "
            f"such as {below or network.multiple} or {below + network.multiple}"
        )
    hints = typing.get_type_hints(network.module, include_extras=True)
    options = {name: hint for name, hint in hints.items() if name not in _GIVEN}
    values: dict[str, Any] = {}
    for name, value in model.options.items():
        if name in _OF_EVERY_NETWORK and name not in options:
            convert(value, _OF_EVERY_NETWORK[name], f"model.{name}")
            continue
        if name not in options:
            raise UserError(f"model.{name}: {network.name} has no such option.{nearest(name, options)}")
        values[name] = _option(name, value, options[name])
    given = {"groups": groups, "targets": targets, "size": size, **fields}
    values.update({name: value for name, value in given.items() if name in hints})
    return network.module(**values)


def _option(name: str, value: Any, hint: Any) -> Any:
    """An option's value, of its declared type and within its range."""
    if name == "dtype":
        return convert(value, _DTYPE, f"model.{name}")
    return value if hint is Any else convert(value, _RANGED.get(hint, hint), f"model.{name}")
