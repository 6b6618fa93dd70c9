"""`scripts/fuzz` in short, and that it sees what it looks for: exceptions, long lines, deaths, hangs."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import scripts
from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.files import tables

SCRIPT = Path(__file__).parent.parent / "scripts" / "fuzz"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    return scripts.load("fuzz")


@pytest.mark.slow
def test_a_few_hundred_changed_files_are_read_or_refused(tmp_path: Path) -> None:
    words = [sys.executable, SCRIPT, "--seed", "16", "--count", "250", "--keep", tmp_path / "kept"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "250 cases" in done.stdout and " 0 failures" in done.stdout
    assert all(f"{kind} refused" in done.stdout for kind in ("volume", "study", "run", "dicom"))
    assert not (tmp_path / "kept").exists()


def test_a_seed_makes_the_same_files_again(fuzz: ModuleType, tmp_path: Path) -> None:
    for name, kind in fuzz.KINDS.items():
        (tmp_path / name).mkdir()
        kind.make(tmp_path / name)
        for seed in range(5):
            made = []
            for place in ("a", "b"):
                shutil.copytree(tmp_path / name, tmp_path / place)
                kind.change(tmp_path / place, random.Random(seed))
                files = sorted(path for path in (tmp_path / place).rglob("*") if path.is_file())
                made.append([(path.relative_to(tmp_path / place), path.read_bytes()) for path in files])
                shutil.rmtree(tmp_path / place)
            assert made[0] == made[1], (name, seed)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UserError("a.nii: it is cut short; get it anew"), "refused"),
        (UserError("two\nlines"), "FAILED AssertionError"),
        (UserError("x" * 2000), "FAILED AssertionError"),
        (UserError(" "), "FAILED AssertionError"),
        (KeyError("progress"), "FAILED KeyError"),
        (MemoryError(), "FAILED MemoryError"),
        (RecursionError(), "FAILED RecursionError"),
        (None, "read"),
    ],
)
def test_only_a_plain_line_is_a_refusal(
    fuzz: ModuleType, tmp_path: Path, error: Exception | None, outcome: str
) -> None:
    def read(folder: Path) -> None:
        if error is not None:
            raise error

    assert fuzz.attempt(read, tmp_path).startswith(outcome)


def manifest_without_progress(fuzz: ModuleType, folder: Path) -> None:
    path = folder / "checkpoints" / "step-00000002" / "manifest.json"
    files.write_sealed(path, {"files": files.read_json(path)["files"]})


def halved_weights(fuzz: ModuleType, folder: Path) -> None:
    arrays = folder / "checkpoints" / "step-00000002" / "arrays" / "weights" / "ocdbt.process_0" / "d"
    for path in arrays.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    fuzz.checked_anew(folder)


def long_cell(fuzz: ModuleType, folder: Path) -> None:
    (folder / "studies.csv").write_text("study,DWI\na1," + "x" * 200_000)


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("run", manifest_without_progress, "every checkpoint is damaged"),
        ("weights", halved_weights, "these are not the weights of this network"),
        ("study", long_cell, r"studies\.csv: it cannot be read as a table"),
    ],
)
def test_what_it_found_once_is_a_plain_line(
    fuzz: ModuleType, tmp_path: Path, kind: str, change: Callable[[ModuleType, Path], None], told: str
) -> None:
    fuzz.KINDS[kind].make(tmp_path)
    change(fuzz, tmp_path)
    with pytest.raises(UserError, match=told) as caught:
        fuzz.KINDS[kind].read(tmp_path)
    fuzz.sound(caught.value)


def test_a_table_is_read_by_column_or_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("study,patient,centre\na,p1\nb,p2,north,more\n")
    assert tables.read_rows(table) == [
        {"study": "a", "patient": "p1", "centre": ""},
        {"study": "b", "patient": "p2", "centre": "north"},
    ]
    table.write_text("study\n" + "x" * 200_000)
    with pytest.raises(UserError, match=r"t\.csv: it cannot be read as a table \(field larger"):
        tables.read_rows(table)
    with pytest.raises(UserError, match="no file can have this name"):
        tables.read_rows(tmp_path / "a\0b.csv")


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import time; print('{\"begins\": 7}', flush=True); time.sleep(60)", "seed 7: no answer within 1 s; kept"),
        ("import os; print('{\"begins\": 7}', flush=True); os.abort()", "seed 7: the process died with -6: ; kept"),
    ],
)
def test_a_hang_and_a_death_are_told_with_their_seed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, program: str, told: str
) -> None:
    monkeypatch.setattr(fuzz, "PATIENCE_S", 1.0)
    tally = fuzz.Tally()
    assert fuzz.watch([sys.executable, "-c", program], 7, tally, lambda seed: "kept") == 8
    assert tally.failures == [told]
