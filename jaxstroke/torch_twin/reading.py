"""Reads weights from a file that anybody may have written: safetensors, or a PyTorch state dict without code in it.

A PyTorch file is a pickle, which can run code.  It is read with `weights_only`, which admits tensors and plain
containers alone, and only from the uncompressed zip archives that `torch.save` writes, so that a small file cannot
unpack to a large one.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from jaxstroke.errors import UserError
from jaxstroke.files import formats

LARGEST_TENSOR_BYTES = 4 * 2**30
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

_CODE = re.compile(r"GLOBAL (\S+)")
_REASONS = {
    "not fully covered": "it is cut short, or longer than its header says",
    "deserializing header": "its header is broken",
}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Returns finite float32 tensors by name."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: weights come as {', '.join(SUFFIXES)}; {path.suffix or 'no ending'} is none of them")
    state = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    return {name: _checked(path, name, tensor) for name, tensor in state.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            _check_format(path, file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: this is no whole safetensors file ({_why(error)}); get the file anew") from None


def _check_format(path: Path, told: Mapping[str, str]) -> None:
    """What an export of ours says of itself; other files say nothing that we know."""
    form = told.get(formats.IN_WEIGHTS, "1")
    found = {**told, formats.KEY: int(form) if form.isdecimal() else form}
    formats.check(path, found, newest=formats.EXPORT, what="file of exported weights")


def _state_dict(path: Path) -> dict[str, Tensor]:
    _check_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises whatever the bytes make it raise
        raise UserError(
            f"{path}: this is not a plain state dict, and nothing else is read ({_why(error)}); "
            "save it again as safetensors, or with torch.save(network.state_dict(), ...)"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path}: a state dict holds tensors by name, and this holds a {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {name} is a {type(value).__name__}, no tensor; save network.state_dict() alone")
    return state


def _check_archive(path: Path) -> None:
    """Refuses what `torch.save` of today does not write: other formats, and archives that grow when unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            damaged = None if packed else archive.testzip()  # each entry has a checksum, which PyTorch does not look at
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError):
        raise UserError(
            f"{path}: this is no PyTorch file of version 1.6 or later, or it is damaged; save it again as safetensors"
        ) from None
    if packed:
        raise UserError(f"{path}: it is compressed, which PyTorch's files are not; it is not read")
    if damaged is not None:
        raise UserError(f"{path}: it is damaged ({damaged} does not have its checksum); get the file anew")


def _checked(path: Path, name: str, tensor: Tensor) -> Tensor:
    # A view can claim a size far beyond its file: one number, seen a billion times.
    if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > LARGEST_TENSOR_BYTES:
        raise UserError(f"{path}: {name} is sparse, or larger than any weight of these networks; it is not read")
    if not tensor.is_floating_point():
        raise UserError(f"{path}: {name} has numbers of type {tensor.dtype}; weights are floating-point numbers")
    tensor = tensor.to(torch.float32).contiguous()
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"{path}: {name} holds numbers that are not finite")
    return tensor


def _why(error: Exception) -> str:
    """In our words: PyTorch's own advise to read such a file without care, and run on for a page."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    code = _CODE.search(text)
    if code:
        return f"it calls for {code[1]}, and code in a file is never run"
    return next((ours for theirs, ours in _REASONS.items() if theirs in text), "its bytes make no tensors")
