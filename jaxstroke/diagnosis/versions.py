"""Which versions are installed, whether they were tested together, and which extras are there."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from jaxstroke.diagnosis.finding import Finding

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy", "nibabel", "matplotlib",
)  # fmt: skip
# Of each extra, what is imported of it.
EXTRAS = {
    "torch": ("torch", "safetensors"),
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "prep": ("SimpleITK", "pydicom", "highdicom"),
    "cuda": ("jax_cuda12_plugin",),
    "tpu": ("libtpu",),
}
_PACKAGE = Path(__file__).parent.parent


def tested_versions(python: tuple[int, int] = (sys.version_info[0], sys.version_info[1])) -> dict[str, str]:
    """By package, the version that the tests were run with on this Python; empty where the list is not installed."""
    name = "py311.txt" if python < (3, 12) else "py312.txt"
    inside = _PACKAGE / "constraints" / name
    path = inside if inside.exists() else _PACKAGE.parent / "constraints" / name
    if not path.exists():
        return {}
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {_same(package): version for package, version in pins}


def installed_versions() -> dict[str, str | None]:
    return {package: _installed(package) for package in PACKAGES}


def versions(installed: Mapping[str, str | None], tested: Mapping[str, str]) -> Finding:
    facts = {
        "python": sys.version.split()[0],
        "installed": dict(installed),
        "tested": {package: tested.get(_same(package)) for package in installed},
    }
    missing = [package for package, version in installed.items() if version is None]
    if missing:
        told = f"not installed: {', '.join(missing)}"
        return Finding("versions", "problem", told, "pip install . in the checkout, or scripts/setup", facts)
    listed = f"Python {facts['python']}, " + ", ".join(f"{package} {version}" for package, version in installed.items())
    other = [
        f"{package} {version} (tested: {tested[_same(package)]})"
        for package, version in installed.items()
        if _same(package) in tested and tested[_same(package)] != version
    ]
    if other:
        return Finding(
            "versions", "note", f"not those tested together: {', '.join(other)}",
            "pip install -c constraints/py3XX.txt . installs the tested ones", facts,
        )  # fmt: skip
    if not tested:
        return Finding("versions", "note", listed, "the list of tested versions is missing: install anew", facts)
    return Finding("versions", "ok", f"{listed}: tested together", facts=facts)


def extras() -> Finding:
    """Extras that are there whole, and those that are there in part, which fail when they are used."""
    found = {name: [module for module in modules if _importable(module)] for name, modules in EXTRAS.items()}
    whole = [name for name, modules in found.items() if len(modules) == len(EXTRAS[name])]
    parts = {name: set(EXTRAS[name]) - set(modules) for name, modules in found.items() if modules}
    broken = [f"{name} lacks {', '.join(sorted(lack))}" for name, lack in parts.items() if lack]
    told = f"installed: {', '.join(whole) or 'none'}; not: {', '.join(n for n in EXTRAS if n not in whole) or 'none'}"
    facts = {name: name in whole for name in EXTRAS}
    if broken:
        name = broken[0].split()[0]
        return Finding(
            "extras", "note", f"{told}; {'; '.join(broken)}", f"pip install '.[{name}]' if you need it", facts
        )
    return Finding("extras", "ok", told, facts=facts)


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _same(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
