"""Writing small files whole or not at all, and reading their fingerprints."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from jaxstroke.errors import UserError
from jaxstroke.files.atomic import whole_file


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; is this a run folder?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: it cannot be read ({error})") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
