"""A checkpoint of many arrays that does not fit its disk: one reason, and nothing else is printed, then or later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FAILING = """
import resource, sys
from pathlib import Path

import pytest
import jax.numpy as jnp
from jaxstroke.errors import UserError
from jaxstroke.runs.checkpoint import Checkpoints
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
random = __import__("numpy").random.default_rng(0)
trees = {word: {f"array{i}": jnp.asarray(random.normal(size=100 + 9_000 * (i % 5)), jnp.float32) for i in range(30)}
         for word in ("weights", "optimiser")}
for turn in range(3):
    checkpoints = Checkpoints(Path(sys.argv[1]) / str(turn))
    try:
        checkpoints.save(1, trees, {"best_steps": {}})
        checkpoints.close()
    except UserError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_failing_checkpoint_of_many_arrays_tells_one_reason_and_prints_nothing_else(tmp_path: Path) -> None:
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", FAILING, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    told = done.stdout.splitlines()
    assert len(told) == 3 and all("cannot be written (File too large)" in line for line in told)
    assert done.stderr == "" and not list(tmp_path.glob("*/step-*"))
