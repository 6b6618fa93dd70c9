"""One bad study among many: the others are predicted, and what failed and what is odd is on record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import above_half
from small_studies import isles2022_root, lesion, save

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Study
from jaxstroke.errors import UserError
from jaxstroke.inference import many, written
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System

SHAPE = (4, 10, 8)


def bright(study: Study) -> Answer:
    return Answer((study.images["DWI"] > 110)[..., None].astype(np.float32), {})


def predict(cases: list[Case], out: Path) -> many.Outcome:
    system = System("bright", "Bright", ("DWI",), bright, above_half)
    layout = find_layout("isles2022")

    def write(study: Study, answer: Answer) -> list[dict]:
        return written.write(out, layout, study, answer, system, ("lesion",), phantom=False)

    return many.predict(cases, system, write, lambda *_, **__: None)


def test_the_others_are_predicted_and_what_failed_is_told_with_file_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = isles2022_root(tmp_path / "data", [lesion(SHAPE, {})] * 4)
    cut, empty = cases[1].images["DWI"], tmp_path / "data" / "sub-strokecase0004"
    cut.write_bytes(cut.read_bytes()[:-50])
    cases[3] = Case(cases[3].study, cases[3].patient, {}, {}, "isles2022", f"{empty}: there is nothing in it")
    outcome = predict(cases, tmp_path / "out")
    assert [line["study"] for line in outcome.done] == ["sub-strokecase0001", "sub-strokecase0003"]
    assert all(Path(line["mask"]).is_file() for line in outcome.done)
    damaged, nothing = outcome.failed
    assert damaged["study"] == "sub-strokecase0002" and damaged["file"] == str(cut) and "damaged" in damaged["reason"]
    assert nothing == {"study": "sub-strokecase0004", "file": None, "reason": f"{empty}: there is nothing in it"}
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(" is left out")[0] for line in told] == [
        "warning: study sub-strokecase0002",
        "warning: study sub-strokecase0004",
    ]


def test_odd_values_stand_beside_the_study(tmp_path: Path) -> None:
    (case, plain) = isles2022_root(tmp_path / "data", [lesion(SHAPE, {})] * 2)
    save(case.images["DWI"], np.zeros((8, 10, 4), np.float32), np.diag([-2.0, 2, 2, 1]))
    outcome = predict([case, plain], tmp_path / "out")
    assert [line["warnings"] for line in outcome.done] == [
        [f"study sub-strokecase0001: DWI is 0 everywhere ({case.images['DWI']})"],
        [],
    ]


def test_a_folder_that_cannot_be_written_is_no_fault_of_a_study(tmp_path: Path) -> None:
    cases = isles2022_root(tmp_path / "data", [lesion(SHAPE, {})] * 2)
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="out: this folder cannot be made"):
        predict(cases, tmp_path / "out")
