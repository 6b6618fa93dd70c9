"""`scripts/torture` in short: a few kills, every file flipped; the script says itself what failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_few_kills_and_every_file_flipped_lose_nothing() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "torture", "--kills", "3", "--seed", "5", "--json"],
        capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == 3
    assert (result["failed_restarts"], result["different_results"], result["left_behind"]) == (0, 0, 0)
    assert result["flips"] == result["flips_found"] > 100
