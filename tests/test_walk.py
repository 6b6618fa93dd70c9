"""`scripts/walk` in short: a few wrong calls and values, and what the script itself finds wrong with an answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import scripts

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return scripts.load("walk")


@pytest.mark.parametrize(("kind", "every"), [("calls", 9), ("values", 30)])
def test_a_few_wrong_calls_and_values_are_answered_by_a_code_and_a_line(kind: str, every: int) -> None:
    page = ROOT / "docs" / "walk.md"
    before = page.read_bytes() if page.exists() else None
    words = [sys.executable, ROOT / "scripts" / "walk", "--only", kind, "--every", str(every)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    count = int(done.stdout.splitlines()[-1].partition(" of ")[0])
    assert count >= 3 and done.stdout.splitlines()[-1] == f"{count} of {count} steps as expected"
    assert (page.read_bytes() if page.exists() else None) == before


def test_an_answer_that_is_not_as_expected_is_found(script: ModuleType, tmp_path: Path) -> None:
    crash = script.Step("calls", "", ("--version",), 0, "", begin_with="raise RuntimeError('no line of ours')")
    assert script.walk(crash, tmp_path)[0] == "code 1, not 0: RuntimeError: no line of ours; a traceback"
    silent = script.Step("calls", "", ("--version",), 0, "^error: ")
    assert script.walk(silent, tmp_path)[0] == "it does not say ^error: "


def test_the_memory_is_that_of_the_step_alone(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the process had that started it: hundreds of tests fill gigabytes."""
    monkeypatch.setattr(script, "MIB", 200)
    filled = np.ones(2**25)  # 256 MiB
    wrong, _, mib = script.walk(script.Step("calls", "", ("--version",), 0, "^jaxstroke "), tmp_path)
    assert wrong == "" and 5 < mib < 200 < filled.nbytes / 2**20
    much = "import time; much = b'1' * (256 * 2**20); time.sleep(0.3)"
    wrong, _, mib = script.walk(script.Step("calls", "", ("--version",), 0, "", begin_with=much), tmp_path)
    assert wrong == f"it took {mib:.0f} MiB" and mib > 256


def test_a_table_is_made_anew_and_the_others_stay(script: ModuleType) -> None:
    row = {"kind": "values", "what": "a|b", "code": 2, "wrong": "", "s": 1.2, "mib": 30.0}
    once = script.page("", "values", [row])
    both = script.page(once, "calls", [{**row, "kind": "calls", "wrong": "a traceback"}])
    assert both.index("\n## calls\n") < both.index("\n## values\n") and "1 steps, 0 as expected" in both
    assert script.page(both, "values", [row]) == both and r"`a\|b`" in both
