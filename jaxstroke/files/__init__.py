"""Writing small files whole or not at all, and reading their fingerprints."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from jaxstroke.errors import UserError
from jaxstroke.files.atomic import whole_file
from jaxstroke.files.opened import read_text, regular
from jaxstroke.files.sealed import SEAL, sealed, unsealed


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def as_read(value: Any) -> Any:
    """The value as it would come back from JSON: tuples as lists."""
    return json.loads(json.dumps(value))


def read_json(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: it is not readable JSON ({error})") from None


def write_sealed(path: Path, tree: Mapping[str, Any]) -> None:
    """JSON that carries its own checksum."""
    write_json(path, sealed(tree))


def read_sealed(path: Path) -> dict[str, Any]:
    """The inverse of `write_sealed`; what was written before files were sealed is taken as it is."""
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: it is damaged (it holds no group of fields)")
    if SEAL not in tree:
        return tree
    found = unsealed(tree)
    if found is None:
        raise UserError(f"{path}: it is damaged or was changed by hand (its checksum does not fit)")
    return found


def sha256(path: Path) -> str:
    """Of a regular file; a pipe, or a file that cannot be read, is a `UserError`."""
    with regular(path) as file:
        return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
