"""jaxstroke: segmentation of acute ischemic stroke lesions in JAX and Flax. Research software, not a medical device."""

import importlib
from typing import Any

from jaxstroke import compiler

__version__ = "0.1.0"
__all__ = ["Prediction", "Study", "Trained", "UserError", "__version__", "load", "score", "study"]

# Where each name is defined: imported when it is first asked for, so that importing the package takes no time.
# `score` is the door's module, which can be called: one name, one object, whatever was imported before.
_DEFINED_IN = {
    "Prediction": "library",
    "Study": "data.study",
    "Trained": "library",
    "UserError": "errors",
    "load": "library",
    "study": "library",
}

compiler.apply_settings()  # before anyone's `import jax` looks for devices


def __getattr__(name: str) -> Any:
    if name == "score":
        return importlib.import_module("jaxstroke.score")
    if name not in _DEFINED_IN:
        raise AttributeError(f"module 'jaxstroke' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxstroke.{_DEFINED_IN[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
