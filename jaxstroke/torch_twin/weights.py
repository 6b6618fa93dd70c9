"""Weights there and back between a Linen network and its twin, by rule.

The module trees of both bear the same names (but see `torch_word`), so the path
`encoder/level1/block1/conv/conv/kernel` is the tensor `encoder.level1.block1.conv.conv.weight`.  What happens to the
array depends on what kind of module owns it:

    convolution              kernel (*window, in, out)   <->  weight (out, in, *window)
    transposed convolution   kernel (*window, in, out)   <->  weight (in, out, *window), window flipped
    linear layer             kernel (in, out)            <->  weight (out, in)
    linear layer that is a convolution over one axis there    (in, out)  <->  (out, in, 1)
    normalisation            scale, bias, mean, var      <->  weight, bias, running_mean, running_var
    position tensor          (pixels, channels)          <->  (channels, pixels), pixels row by row in both
    anything else            the same name and the same array

Adding a network adds no line here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor, nn

from jaxstroke.errors import UserError
from jaxstroke.torch_twin.nn.blocks import BiasedBatchNorm

Array = np.ndarray
Variables = Mapping[str, Any]
Path = tuple[str, ...]  # ("params", "encoder", ..., "kernel")
StateDict = dict[str, Tensor]

_STATISTICS = {"mean": "running_mean", "var": "running_var"}


@dataclasses.dataclass(frozen=True)
class Rule:
    """The name of a tensor in its module, and what its array goes through on the way there and back."""

    leaf: str
    there: Callable[[Array], Array]
    back: Callable[[Array], Array]


def _same(array: Array) -> Array:
    return array


def _convolution_there(kernel: Array) -> Array:
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _convolution_back(weight: Array) -> Array:
    return np.moveaxis(weight, (0, 1), (-1, -2))


def _transposed_there(kernel: Array) -> Array:
    return np.moveaxis(np.flip(kernel, tuple(range(kernel.ndim - 2))), (-2, -1), (0, 1))


def _transposed_back(weight: Array) -> Array:
    kernel = np.moveaxis(weight, (0, 1), (-2, -1))
    return np.flip(kernel, tuple(range(kernel.ndim - 2)))


_CONVOLUTION = Rule("weight", _convolution_there, _convolution_back)
_TRANSPOSED = Rule("weight", _transposed_there, _transposed_back)
_LINEAR = Rule("weight", np.transpose, np.transpose)
_POINTWISE = Rule("weight", lambda kernel: kernel.T[..., None], lambda weight: weight[..., 0].T)
_POSITION = Rule("position", np.transpose, np.transpose)


def rule(owner: nn.Module, leaf: str) -> Rule:
    """The rule for one array of a Linen module, whose twin is `owner`."""
    if leaf == "kernel":
        if isinstance(owner, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            return _TRANSPOSED
        if isinstance(owner, nn.Conv1d):
            return _POINTWISE
        return _LINEAR if isinstance(owner, nn.Linear) else _CONVOLUTION
    if leaf == "scale" and isinstance(owner, (BiasedBatchNorm, nn.GroupNorm, nn.LayerNorm)):
        return Rule("weight", _same, _same)
    if leaf == "position":
        return _POSITION
    return Rule(_STATISTICS.get(leaf, leaf), _same, _same)


def torch_word(word: str) -> str:
    """A module's name in the twin: words that every PyTorch module has a method of (`half`) get a line behind them."""
    return f"{word}_" if hasattr(nn.Module, word) else word


def correspondence(variables: Variables, twin: nn.Module) -> dict[Path, tuple[str, Rule]]:
    """For every array of the Linen network, the tensor of the twin that it is, and the rule between them."""
    found = {}
    for path in flatten(variables):
        _, *words, leaf = path
        modules = [torch_word(word) for word in words]
        one = rule(twin.get_submodule(".".join(modules)), leaf)
        found[path] = (".".join((*modules, one.leaf)), one)
    return found


def to_torch(variables: Variables, twin: nn.Module) -> StateDict:
    """The twin's state dict with the weights and statistics of the Linen network."""
    arrays = flatten(variables)
    state = {
        name: torch.from_numpy(np.array(one.there(np.asarray(arrays[path])), order="C"))  # a copy of its own
        for path, (name, one) in correspondence(variables, twin).items()
    }
    _check_shapes(state, twin.state_dict(), "the Linen network")
    return state


def to_flax(state: Mapping[str, Tensor], twin: nn.Module, like: Variables, *, source: str) -> dict[str, Any]:
    """The Linen variables with the weights of a state dict of the twin; `like` gives their tree (shapes will do)."""
    _check_shapes(state, twin.state_dict(), source)
    arrays = {
        path: np.array(one.back(state[name].detach().cpu().numpy()), order="C")
        for path, (name, one) in correspondence(like, twin).items()
    }
    for path, expected in flatten(like).items():
        if arrays[path].shape != expected.shape:
            raise UserError(f"{source}: {'/'.join(path)} would be {arrays[path].shape}, and {expected.shape} is needed")
    return unflatten(arrays)


def _check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Names what is missing, what is too much and what has another shape, the first few of each."""
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    faults = {"are missing": missing, "are not of this network": surplus, "have another shape": wrong}
    told = [
        f"{len(names)} tensors {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in faults.items()
        if names
    ]
    if told:
        raise UserError(f"{source}: these are not the weights of this network with these options; {'; '.join(told)}")


def flatten(tree: Variables) -> dict[Path, Any]:
    """Arrays by path, as {("params", "head", ..., "kernel"): array}."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(dict(tree))
    return {tuple(str(key.key) for key in path): leaf for path, leaf in leaves}


def unflatten(arrays: Mapping[Path, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        node = tree
        for word in path[:-1]:
            node = node.setdefault(word, {})
        node[path[-1]] = array
    return tree
