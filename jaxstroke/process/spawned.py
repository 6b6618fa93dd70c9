"""Starting processes that import what they run, and not the script that started them."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator


@contextlib.contextmanager
def without_script() -> Iterator[None]:
    """While a spawned process is started, the script that runs is out of its sight.

    It would else run the script once more, up to the line that starts it, unless that stood under
    `if __name__ == "__main__"`; in a notebook or a plain script it does not.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
