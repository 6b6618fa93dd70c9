"""The notebook from a phantom to a picture: its cells run from top to bottom, and show what is kept in it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import browser
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "phantom_to_picture.ipynb"


@pytest.mark.slow
def test_its_cells_run_and_show_what_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "again.ipynb"
    done = subprocess.run([sys.executable, ROOT / "scripts" / "notebook", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept, made = (json.loads(path.read_text())["cells"] for path in (NOTEBOOK, out))
    for one, other in zip(kept, made, strict=True):
        assert _printed(one) == _printed(other)
    shown = [output["data"]["image/png"] for cell in made for output in cell.get("outputs", ()) if "data" in output]
    picture = browser.pixels(base64.b64decode(shown[-1]))
    near = np.abs(picture.astype(int) - (230, 126, 0)).max(axis=-1) < 25
    assert near.sum() > 200, "the predicted outline"


def _printed(cell: dict) -> list[str]:
    return [line for output in cell.get("outputs", ()) for line in output.get("text", ())]


def test_it_is_small_and_says_what_it_is_of() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 150_000 and "nothing about real stroke" in text
    assert "[phantom]" in text, "the picture's title"
    counts = [cell["execution_count"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert counts == [1, 2, 3, 4, 5], "run from top to bottom"
