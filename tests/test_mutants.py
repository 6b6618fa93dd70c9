"""The list of planted faults cannot rot, and `scripts/mutants` tells a fault that is noticed from one that is not."""

from __future__ import annotations

import ast
import functools
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest
from fault import Mutant
from planted import MUTANTS

import scripts

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return scripts.load("mutants")


@functools.cache
def defined_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_fault_can_still_be_planted_and_its_tests_are_there() -> None:
    assert len({one.what for one in MUTANTS}) == len(MUTANTS) >= 60
    for one in MUTANTS:
        text = (ROOT / one.file).read_text(encoding="utf-8")
        found = text.count(one.before)
        assert found == 1, f"{one.what}: {one.file} holds {one.before!r} {found} times"
        ast.parse(text.replace(one.before, one.after))
        assert one.after != one.before and one.tests and " | " not in one.what
        for test in one.tests:
            file, _, name = test.partition("::")
            assert not name or name.partition("[")[0] in defined_in(file), f"{one.what}: there is no {test}"
            assert defined_in(file)


@pytest.mark.slow
def test_a_fault_is_planted_in_the_copy_and_taken_out_again(script: ModuleType, tmp_path: Path) -> None:
    """A program of one line with two tests, of which one looks."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "sums.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "tests" / "test_a.py").write_text("import sums\n\n\ndef test_a():\n    assert sums.twice(0) == 0\n")
    (tmp_path / "tests" / "test_b.py").write_text("import sums\n\n\ndef test_b():\n    assert sums.twice(3) == 6\n")
    fault = Mutant("sums.py", "2 * x", "3 * x", ("test_a.py", "test_b.py"), "thrice")
    moments = itertools.count(1_000_000_000)
    found = {}
    for tests in (("test_a.py",), fault.tests):
        with script.planted(fault, tmp_path, moments):
            assert "3 * x" in (tmp_path / "sums.py").read_text()
            found[tests] = script.noticed_by(*script.run(tests, tmp_path, first=True))
    assert script.run(fault.tests, tmp_path, first=False)[0] == 0, "the compiled fault is not taken for the file"
    assert found == {("test_a.py",): script.SURVIVED, fault.tests: "test_b.py::test_b"}
    with pytest.raises(SystemExit, match="holds '9' 0 times"):
        script.check([fault, Mutant("sums.py", "9", "8", (), "")], tmp_path)
    with pytest.raises(SystemExit, match="pytest ended with 2, and no test had failed"):
        script.noticed_by(2, "ERROR collecting")


def test_lines_of_other_goes_stay_in_the_page(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mutants"])
    first, second = MUTANTS[:2]
    one = script.page({}, [script.Found(second, "test_a.py::test_a", 2.4, "abc")])
    both = script.page(script.rows(one), [script.Found(first, script.SURVIVED, 1.0, "abd")])
    assert list(script.rows(both)) == [first.what, second.what]
    assert f"2 of {len(MUTANTS)} faults were planted, 1 survived" in both
    assert script.page(script.rows(both), []) == both
    assert script.chosen((), True, script.rows(both)) == [first, *MUTANTS[2:]], "what survived is tried again"
    assert script.chosen([first.what], False, {}) == [first]
