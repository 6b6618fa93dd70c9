"""The twin as a stand-alone PyTorch program (`torch.export`), channels first."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree  # what torch.export flattens its inputs with

from jaxstroke.experiment.kinds import Kind
from jaxstroke.exports.check import Runner
from jaxstroke.exports.trained import Arrays, Trained
from jaxstroke.torch_twin import arrays, registry, weights

LARGEST = 4096  # rows, and as many columns, of an open size
TRACED_BATCH = 2  # 0 and 1 are special to the tracer


class Program(nn.Module):
    """images (B, C, H, W) -> probabilities (B, K, H, W); volumes and series as `torch_twin.arrays` lays them."""

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.twin = twin

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.twin(images).logits)


class StreamingProgram(nn.Module):
    """images of one slice (B, C, H, W), memory -> probabilities (B, K, H, W), memory."""

    def __init__(self, twin: nn.Module, size: int) -> None:
        super().__init__()
        self.twin: Any = twin
        memory = self.twin.initial_memory(1, size, size)
        self.structure = pytree.tree_structure(memory)

    def forward(self, images: Tensor, memory: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        valid = torch.ones(images.shape[0], dtype=torch.bool, device=images.device)
        state = pytree.tree_unflatten(memory, self.structure)
        state, outputs = self.twin.step(state, images, valid)
        return torch.sigmoid(outputs.logits), pytree.tree_leaves(state)


def twin_of(trained: Trained) -> nn.Module:
    """The twin with the trained weights, in evaluation mode."""
    twin = registry.build(trained.experiment.model.name, trained.network, trained.groups)
    twin.load_state_dict(weights.to_torch(trained.variables, twin))
    return twin.requires_grad_(False)


def module_of(trained: Trained, twin: nn.Module) -> nn.Module:
    twin = copy.deepcopy(twin)
    return (StreamingProgram(twin, trained.data.size) if trained.streams else Program(twin)).eval()


def examples(trained: Trained) -> tuple[Any, ...]:
    """Inputs of the shapes that the program is traced with."""
    shape = trained.image_shape(TRACED_BATCH, trained.data.size)
    images = arrays.to_torch(np.zeros(shape, np.float32), image_kind(trained))
    if not trained.streams:
        return (images,)
    return images, [memory_to_torch(leaf) for leaf in trained.initial_memory(TRACED_BATCH, trained.data.size)]


def dynamic_shapes(trained: Trained, *, open_size: bool) -> tuple[Any, ...]:
    """Which axes may differ from those of the examples: the batch, and height and width in steps of `multiple`."""
    batch = Dim("batch", min=1, max=1024)
    steps = {axis: Dim(axis, min=1, max=LARGEST // trained.multiple) for axis in ("rows", "columns")}
    coarse = trained.multiple // 16  # the memory's maps are a sixteenth as high and wide
    last = len(trained.image_shape(1, 1)) - 1
    images: dict[int, Any] = {0: batch}
    if open_size:
        images |= {last - 1: trained.multiple * steps["rows"], last: trained.multiple * steps["columns"]}
    if not trained.streams:
        return (images,)
    memory = []
    for leaf in trained.initial_memory(1, trained.data.size):
        axes: dict[int, Any] = {0: batch}
        if open_size and leaf.ndim >= 4:
            rows, columns = (steps[axis] if coarse == 1 else coarse * steps[axis] for axis in ("rows", "columns"))
            axes |= {leaf.ndim - 2: rows, leaf.ndim - 1: columns}
        memory.append(axes)
    return images, memory


def trace(trained: Trained, module: nn.Module, *, open_size: bool) -> ExportedProgram:
    """The program; a ValueError where `open_size` is asked for and an operation of the network needs the size."""
    shapes = dynamic_shapes(trained, open_size=open_size)
    try:
        return torch.export.export(module, examples(trained), dynamic_shapes=shapes, strict=False)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def load(path: Path, trained: Trained) -> Runner:
    """Runs the program that lies in a file, with JAX's layout outside."""
    module = torch.export.load(path).module()

    @torch.no_grad()
    def run(inputs: Arrays) -> Arrays:
        images, *memory = tensors(trained, inputs)
        if not trained.streams:
            return from_tensors(trained, [module(images)])
        probabilities, memory = module(images, memory)
        return from_tensors(trained, [probabilities, *memory])

    return run


# --- between JAX's layout and PyTorch's ------------------------------------------------------------------------------


def image_kind(trained: Trained) -> Kind:
    return Kind() if trained.streams else trained.data.kind  # a clip goes through slice by slice


def memory_to_torch(leaf: np.ndarray) -> Tensor:
    """Maps (..., H, W, C) become (..., C, H, W); slots and flags stay."""
    return torch.from_numpy(np.array(np.moveaxis(leaf, -1, -3) if leaf.ndim >= 4 else leaf, order="C"))


def tensors(trained: Trained, inputs: Arrays) -> list[Tensor]:
    images, *memory = inputs
    return [arrays.to_torch(images, image_kind(trained)), *map(memory_to_torch, memory)]


def from_tensors(trained: Trained, outputs: Sequence[Tensor]) -> Arrays:
    probabilities, *memory = outputs
    back = [np.moveaxis(leaf.numpy(), -3, -1) if leaf.ndim >= 4 else leaf.numpy() for leaf in memory]
    return [arrays.to_numpy(probabilities, image_kind(trained)), *back]
