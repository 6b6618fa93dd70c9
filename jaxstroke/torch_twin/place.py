"""Where both libraries compute, and how exactly."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import torch

from jaxstroke.process import cores


@dataclasses.dataclass(frozen=True)
class Place:
    """Attributes: the device for both libraries; `why_not` says why it is not the wanted one, where it is not."""

    name: str  # "cpu" or "cuda"
    kind: str
    jax_device: Any
    torch_device: torch.device
    why_not: str = ""


def find(wanted: str) -> Place:
    """The wanted device where both libraries can use it, else the CPU."""
    why_not = "" if wanted == "cpu" else _why_no_card()
    if wanted == "cuda" and not why_not:
        return Place("cuda", torch.cuda.get_device_name(), jax.devices("cuda")[0], torch.device("cuda"))
    return Place("cpu", f"{cores.usable()} CPU cores", jax.devices("cpu")[0], torch.device("cpu"), why_not)


def _why_no_card() -> str:
    if not torch.cuda.is_available():
        return "--device cuda: PyTorch finds no CUDA card, or has no CUDA build"
    try:
        jax.devices("cuda")
    except RuntimeError:
        return "--device cuda: JAX finds no CUDA card; pip install 'jaxstroke[cuda]' brings its plugin"
    return ""


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 in either library: it keeps ten bits of a product's factors, and what is compared is rounding."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with jax.default_matmul_precision("highest"):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
