"""Weights & Biases gets what TensorBoard gets, on this machine alone unless told otherwise, and only when asked for."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxstroke import train
from jaxstroke.errors import UserError
from jaxstroke.training import events
from jaxstroke.training.display import Report
from jaxstroke.training.weights_and_biases import WeightsAndBiases

FAKE = """
import os
said = []
class Error(Exception): pass
class Settings(dict): pass
class Run:
    def define_metric(self, *words, **named): said.append(("define", words, named))
    def log(self, figures): said.append(("log", figures))
    def finish(self): said.append(("finish",))
def init(**words):
    if words["name"].startswith("refused"):
        raise Error("no key")
    said.append(("init", os.environ["WANDB_MODE"], words))
    return Run()
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What a package that stands in for `wandb` is told."""
    monkeypatch.setattr(os, "environ", {name: one for name, one in os.environ.items() if not name.startswith("WANDB")})
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "wandb.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    import wandb  # pyright: ignore[reportMissingImports]

    yield wandb.said
    del sys.modules["wandb"]


def test_it_is_offline_unless_one_says_otherwise(said: list[Any], tmp_path: Path) -> None:
    WeightsAndBiases(tmp_path / "run", {"name": "dme"}, phantom=True)
    os.environ["WANDB_MODE"] = "online"
    WeightsAndBiases(tmp_path / "run", {}, phantom=False)
    (_, mode, words), (_, other_mode, others) = (one for one in said if one[0] == "init")
    assert (mode, other_mode, os.environ["WANDB_ERROR_REPORTING"]) == ("offline", "online", "false")
    assert words["config"] == {"name": "dme", "phantom": True} and words["name"] == "run [phantom]"
    assert others["name"] == others["group"] == words["group"] == "run" and words["dir"] == str(tmp_path / "run")
    assert words["save_code"] is False


def test_both_get_the_same_figures(said: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []
    monkeypatch.setattr(events.Events, "add_scalar", lambda self, *figure: written.append(figure))
    also = WeightsAndBiases(tmp_path / "run", {}, phantom=True)
    with Report(tmp_path / "events", phantom=True, also=also) as report:
        report.begin(0, 8, 4)
        report.stepped(4, 0.5, 1e-3, 10.0)
        row = {"step": 4, "dice": 0.25, "validation_loss": 0.75, "hd95_mm": math.nan}
        report.validated(row, best=True)
    logged = [one[1] for one in said if one[0] == "log"]
    also_written = [(name, value, one["step"]) for one in logged for name, value in one.items() if name != "step"]
    assert also_written == written
    assert ("validation/dice", 0.25, 4) in written and len(written) == 5, "what is undefined is not written"
    assert said[-1] == ("finish",)


def test_what_it_refuses_is_one_line(said: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--wandb: it cannot begin \(no key\)"):
        WeightsAndBiases(tmp_path / "refused", {}, phantom=False)


def test_a_package_that_is_missing_is_said_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'jaxstroke\[wandb\]'"):
        train.main(["--exp", "dme_isles18", "--wandb", "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_nobody_imports_it_unasked(tmp_path: Path) -> None:
    with Report(tmp_path / "events", phantom=True) as report:
        report.begin(0, 8, 4)
    assert "wandb" not in sys.modules
