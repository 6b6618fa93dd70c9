"""Cross-validation: each study is held out once, no fold is left out, means over studies and folds are told apart."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from small_studies import isles2022_root, lesion

from jaxstroke import compare, crossval, evaluate, files
from jaxstroke.errors import UserError
from jaxstroke.experiment import as_json, catalogue, overrides
from jaxstroke.inference.held_out import held_out
from jaxstroke.judging import folds as folding
from jaxstroke.judging.folds import Fold
from jaxstroke.metrics import scorecard
from jaxstroke.runs.folder import RunFolder

HELD_OUT = (("a", "b", "c"), ("d",))


def fold(root: Path, number: int, test: Sequence[str], others: Sequence[str], *, fingerprint: str = "same") -> Fold:
    """A fold that was trained and evaluated, as far as files tell; the reference of each study has its own size."""
    run = root / f"fold-{number}"
    its = overrides.override(catalogue.load("unet_isles22", scale="small"), {"data.fold": number, "data.folds": 5})
    files.write_text(run / "experiment.json", as_json.to_json(its))
    about = {
        "data": "x", "phantom": True, "data_fingerprint": fingerprint, "seed": 0, "versions": {},
        "split": {"train": list(others), "validation": [], "test": list(test)},
    }  # fmt: skip
    files.write_sealed(run / "about.json", about)
    rows = []
    for study in test:
        reference, prediction = np.zeros((2, 2, 8, 8), bool)
        reference[1, 1:5, 1:5] = True
        prediction[1, 1:5, 1 : 2 + "abcd".index(study)] = True
        row = scorecard.score(prediction, reference, (5.0, 2.0, 2.0))
        rows.append({"data": "phantom", "study": study, "patient": study, "target": "lesion", "system": "net", **row})
    out = run / "evaluation" / "test"
    out.mkdir(parents=True)
    with (out / "scores.csv").open("w", newline="") as text:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    files.write_json(out / "summary.json", {})
    return Fold(number, run)


def two_folds(root: Path) -> list[Fold]:
    return [fold(root, number, HELD_OUT[number], HELD_OUT[1 - number]) for number in (0, 1)]


def test_means_over_studies_and_over_folds_are_two_figures(tmp_path: Path) -> None:
    rows = folding.rows_of(two_folds(tmp_path))
    (line,) = folding.summaries(rows)
    dice = {row["study"]: row["dice"] for row in rows}
    first, second = np.mean([dice[study] for study in "abc"]), dice["d"]
    assert line["over_studies"]["dice"].mean == pytest.approx(np.mean(list(dice.values())))
    assert line["over_studies"]["dice"].sd == pytest.approx(np.std(list(dice.values()), ddof=1))
    assert line["over_folds"]["dice"].mean == pytest.approx((first + second) / 2)
    assert line["over_folds"]["dice"].sd == pytest.approx(abs(first - second) / np.sqrt(2))
    assert line["over_folds"]["dice"].n == 2 and line["fold_means"]["dice"] == {0: pytest.approx(first), 1: second}
    precision, recall = (np.mean([row[name] for row in rows if row["fold"] == 0]) for name in ("precision", "recall"))
    assert line["fold_means"]["f1_of_means"][0] == pytest.approx(2 * precision * recall / (precision + recall))


def test_what_is_not_one_cross_validation_is_refused(tmp_path: Path) -> None:
    folds = two_folds(tmp_path)
    folding.check_complete(folds, folding.rows_of(folds))
    with pytest.raises(UserError, match=r"fold-0: no fold held out d \(1 such studies\)"):
        folding.check_complete(folds[:1], folding.rows_of(folds[:1]))
    with pytest.raises(UserError, match="fold-2: a was held out in .*fold-0 too"):
        folding.rows_of([*folds, fold(tmp_path, 2, ("a",), ("b",))])
    with pytest.raises(UserError, match="fold-3: this fold was trained on other data"):
        folding.rows_of([*folds, fold(tmp_path, 3, ("c",), ("b",), fingerprint="other")])


def test_a_fold_that_was_done_before_a_field_was_there_is_done(tmp_path: Path) -> None:
    one, wanted = two_folds(tmp_path)[0], catalogue.load("unet_isles22", scale="small")
    folding.mark_done(one, wanted)
    path = one.path / "crossval.json"
    record = files.read_sealed(path)
    del record["experiment"]["training"]["average"]
    files.write_sealed(path, record)
    assert folding.is_done(one, wanted)
    record["experiment"]["training"]["epochs"] += 1
    files.write_sealed(path, record)
    assert not folding.is_done(one, wanted)
    files.write_sealed(path, {"checkpoints": ""})
    assert not folding.is_done(one, wanted)


def test_a_fold_is_done_until_its_run_or_the_experiment_changes(tmp_path: Path) -> None:
    one = two_folds(tmp_path)[0]
    wanted = catalogue.load("unet_isles22", scale="small")
    assert not folding.is_done(one, wanted)
    folding.mark_done(one, wanted)
    assert folding.is_done(one, wanted)
    assert not folding.is_done(one, catalogue.load("unet_isles22", scale="full"))
    files.write_json(one.path / "checkpoints" / "step-00000009" / "manifest.json", {})
    assert not folding.is_done(one, wanted), "it was trained further"
    folding.mark_done(one, wanted)
    (one.evaluation / "scores.csv").unlink()
    assert not folding.is_done(one, wanted)


def test_pooled_once_all_folds_are_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--exp", "unet_isles22", "--scale", "small", "--set", "data.folds=2", "--out", str(tmp_path)]
    args = crossval.parser().parse_args(words)
    wanted = crossval._experiment(args)
    for one in two_folds(tmp_path):
        folding.mark_done(one, crossval.overrides.override(wanted, {"data.fold": one.number}))
    assert crossval.main(words) == 0
    told = capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert all(f'"study": "{study}"' in page or f">{study}<" in page for study in "abcd") and "PHANTOM" in page.upper()
    assert "over studies" in told and "of the means of folds" in told and "[PHANTOM]" in told
    tree = json.loads((tmp_path / "summary.json").read_text())
    (line,) = tree["systems"]
    assert line["over_folds"]["dice"]["n"] == 2 and line["over_studies"]["dice"]["n"] == 4
    with (tmp_path / "scores.csv").open() as file:
        assert [(row["fold"], row["study"]) for row in csv.DictReader(file)] == [*zip("0001", "abcd", strict=True)]
    with pytest.raises(UserError, match="only net was judged there"):
        compare.main([str(tmp_path)])  # compare reads it as it reads a run


@pytest.mark.slow
def test_a_fold_that_fails_ends_it(tmp_path: Path) -> None:
    isles2022_root(tmp_path / "data", [lesion((2, 16, 16), {0: (4, 4)})])  # one patient: nothing to train on
    words = ["--exp", "unet_isles22", "--scale", "small", "--out", str(tmp_path), "--data", str(tmp_path / "data")]
    with pytest.raises(UserError, match="fold 0 failed .train ended with 2.*nothing was pooled"):
        crossval.main(words)


def test_a_test_set_that_is_laid_down_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        for name in ("adc", "dwi", "adc_r1", "dwi_r1"):
            files.write_bytes(tmp_path / "data" / f"study_{number:03}" / f"{name}.nii.gz", b"")
    files.write_text(
        tmp_path / "data" / "studies.csv", "study,patient,group,split\nstudy_001,a,x,train\nstudy_002,b,x,test\n"
    )
    words = ["--exp", "crossdomain_v1", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"lays down which studies are for testing.*train several seeds") as told:
        crossval.main(words)
    assert "\n" not in str(told.value) and not (tmp_path / "out").exists()
    monkeypatch.setenv("JAXSTROKE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="the phantom of two_reader: it lays down"):
        crossval.main(["--exp", "crossdomain_v1", "--scale", "small"])
    assert not (tmp_path / "cache").exists(), "no phantom was made to know it"


def test_mistakes_in_the_words() -> None:
    with pytest.raises(UserError, match=r"data\.fold=5 \(--fold\): folds are counted from 0 to 4"):
        crossval.main(["--exp", "unet_isles22", "--fold", "5"])
    with pytest.raises(UserError, match=r"for one of them give --fold K"):
        crossval.main(["--exp", "unet_isles22", "--set", "data.fold=1"])


@pytest.mark.slow
def test_the_whole_way_in_two_turns(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny = {"data.size": 32, "data.batch": 4, "data.phantom_cases": 5, "data.folds": 2, "model.width": 2,
            "training.epochs": 1, "training.steps_per_epoch": 2, "training.validate_every_epochs": 1,
            "augment.probability": 0.0}  # fmt: skip
    words = ["--exp", "unet_isles22", "--scale", "small", "--out", str(tmp_path)]
    words += [word for field, value in tiny.items() for word in ("--set", f"{field}={value}")]
    assert crossval.main([*words, "--fold", "1"]) == 0
    assert "pooled when folds 0 are" in capfd.readouterr().out and not (tmp_path / "scores.csv").exists()
    assert crossval.main(words) == 0
    assert f"fold 1: trained and evaluated, {tmp_path / 'fold-1'}" in capfd.readouterr().out
    with (tmp_path / "scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == "unet_isles22"]
    assert len(rows) == 5 and len({row["study"] for row in rows}) == 5


# --- which studies a run is judged on ---


def run_on(root: Path, data: Path, split: Mapping[str, Sequence[str]]) -> RunFolder:
    run = RunFolder(root / "run")
    files.write_text(run.path / "experiment.json", as_json.to_json(catalogue.load("unet_isles22", scale="small")))
    about = {"data": str(data), "phantom": False, "data_fingerprint": "x", "seed": 0, "versions": {}, "split": split}
    files.write_sealed(run.path / "about.json", about)
    return run


def data_set(root: Path, column: int) -> tuple[Path, list[str]]:
    masks = [lesion((3, 16, 16), {1: (4 + number, column)}) for number in range(3)]
    return root, [case.study for case in isles2022_root(root, masks)]


def test_another_data_set_is_judged_whole_and_its_own_one_by_its_split(tmp_path: Path) -> None:
    own, names = data_set(tmp_path / "own", 4)
    moved, _ = data_set(tmp_path / "moved", 4)
    other, _ = data_set(tmp_path / "other", 8)
    run = run_on(tmp_path, own, {"train": names[:1], "validation": names[1:2], "test": names[2:]})
    data = run.experiment().data

    def judged(folder: Path | None) -> tuple[str, list[str]]:
        found = held_out(run, data, split="test", folder=folder and str(folder))
        return found.name, [case.study for case in found.cases]

    assert judged(None) == judged(own) == ("test", names[2:])
    assert judged(moved) == ("test", names[2:]), "a copy"
    assert judged(other) == ("external-other", names), "the same names, other studies"


def test_weights_that_were_never_trained_here_say_so(tmp_path: Path) -> None:
    own, names = data_set(tmp_path / "own", 4)
    run = run_on(tmp_path, Path(""), {"train": [], "validation": [], "test": []})
    with pytest.raises(UserError, match="run: it was never trained here, so no study was held out .*--data") as told:
        evaluate.main([str(run.path)])
    assert "\n" not in str(told.value)
    assert len(held_out(run, run.experiment().data, split="test", folder=str(own)).cases) == len(names)
