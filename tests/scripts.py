"""The programs of `scripts/`, which have no ending, as modules for the tests that ask them something."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent.parent / "scripts"


def load(name: str) -> ModuleType:
    """The script under its last name, `slurm/rehearse` as `rehearse`."""
    path = FOLDER / name
    loader = importlib.machinery.SourceFileLoader(path.name, str(path))
    spec = importlib.util.spec_from_loader(path.name, loader)
    assert spec is not None
    module = sys.modules[path.name] = importlib.util.module_from_spec(spec)  # where its dataclasses look
    loader.exec_module(module)
    return module
