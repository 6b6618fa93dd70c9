"""JSON trees that carry a checksum of themselves, so that a flipped bit in them is found.

>>> unsealed(sealed({"a": 1}))
{'a': 1}
>>> unsealed({"a": 2, "sha256": sealed({"a": 1})["sha256"]}) is None
True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"


def sealed(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {**tree, SEAL: _digest(tree)}


def unsealed(tree: Any) -> dict[str, Any] | None:
    """The tree that was sealed, or None where it is not as it was."""
    if not isinstance(tree, dict):
        return None
    rest = {key: value for key, value in tree.items() if key != SEAL}
    return rest if tree.get(SEAL) == _digest(rest) else None


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
