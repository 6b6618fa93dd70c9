"""Scores of masks in files: what belongs together, by which rules, and what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jaxstroke import score
from jaxstroke.errors import UserError
from jaxstroke.metrics.scorecard import COLUMNS, PROBABILITY_SCORES


def write(path: Path, array: np.ndarray, *, mm: float = 2.0, shift: float = 0.0) -> Path:
    """(D, H, W) with voxels of `mm`."""
    affine = np.diag([-mm, -mm, mm, 1.0])
    affine[0, 3] = shift
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.transpose(array), affine), path)
    return path


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Reference: lesions of 4 and 2 voxels. Prediction: 3 of the first's, none of the second's, one stray voxel."""
    reference, prediction = np.zeros((2, 4, 8, 8), np.uint8)
    reference[1, 1, 1:5] = 1
    reference[3, 6, 6:8] = 1
    prediction[1, 1, 2:5] = 1
    prediction[0, 7, 0] = 1
    return reference, prediction


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    reference, prediction = masks()
    cases = {"a": (reference, prediction), "b": (reference, reference), "c": (0 * reference, prediction)}
    for name, (one, other) in cases.items():
        write(tmp_path / "truth" / f"{name}.nii.gz", one)
        write(tmp_path / "mine" / f"{name}.nii", other)
    return tmp_path / "truth", tmp_path / "mine"


def scored(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert score.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_two_masks_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, prediction = masks()
    one, other = write(tmp_path / "truth.nii.gz", reference), write(tmp_path / "mine.nii", prediction)
    tree = scored(capsys, "--reference", one, "--prediction", other)
    (case,) = tree["cases"]
    assert case["case"] == "truth" and tree["rules"]["name"] == "isles22" and tree["phantom"] is False
    assert case["dice"] == pytest.approx(2 * 3 / (4 + 6)) and case["precision"] == 3 / 4 and case["recall"] == 3 / 6
    assert case["f1"] == pytest.approx(case["dice"])
    assert case["volume_difference_ml"] == pytest.approx(2 * 8 / 1000)
    assert case["lesion_count_difference"] == 0 and case["lesion_f1"] == 0.5 and case["missed_lesion_rate"] == 0.5
    assert case["slice_sensitivity"] == 0.5 and case["slice_specificity"] == 0.5
    assert set(case) == {"case", *COLUMNS} - set(PROBABILITY_SCORES)
    assert tree["mean"] == {name: case[name] for name in tree["mean"] if name in case} | {
        "f1_of_means": pytest.approx(0.6)
    }


def test_two_folders_and_their_mean(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    tree = scored(capsys, "--reference", folders[0], "--prediction", folders[1])
    assert [case["case"] for case in tree["cases"]] == ["a", "b", "c"]
    assert tree["mean"]["dice"] == pytest.approx((0.6 + 1 + 0) / 3)
    assert tree["cases"][2]["recall"] is None and tree["undefined"]["recall"] == 1
    assert tree["mean"]["recall"] == pytest.approx((0.5 + 1) / 2)


def test_rules_change_the_lesions_that_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, prediction = np.zeros((2, 1, 4, 12), np.uint8)
    reference[0, 1, :10], prediction[0, 1, 9:11] = 1, 1  # IoU 1 / 11
    reference[0, 3, :4], prediction[0, 3, :1] = 1, 1  # IoU 1 / 4
    one, other = write(tmp_path / "truth.nii", reference), write(tmp_path / "mine.nii", prediction)
    words = ("--reference", one, "--prediction", other, "--rules")
    found = {name: scored(capsys, *words, name)["mean"]["lesion_f1"] for name in ("isles22", "isles24", "isles24_2024")}
    assert found == {"isles22": 1.0, "isles24": 0.5, "isles24_2024": 0.0}


def test_tables_and_files(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--reference", str(folders[0]), "--prediction", str(folders[1]), "-o", str(tmp_path / "out"), "--cases"]
    assert score.main(words) == 0
    told = capsys.readouterr().out
    assert "F1 of mean precision and recall" in told and "Lesion F1" in told and "no lesion" in told
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b", "c"] and rows[0]["data"] == "real"
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["cases"][0]["dice"] == pytest.approx(0.6)


def test_strata_by_image_quality(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    truth, mine = folders
    (truth / "quality.csv").write_text("study,quality\na,good\nb,motion\n")
    assert score.main(["--reference", str(truth), "--prediction", str(mine)]) == 0
    assert "quality:" not in capsys.readouterr().out, "c has none: no strata of only some of the studies"
    (truth / "quality.csv").write_text("study,quality\na,good\nb,motion\nc,good\n")
    assert score.main(["--reference", str(truth), "--prediction", str(mine)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("quality:")]
    assert [line[1:3] for line in lines] == [["good", "2"], ["motion", "1"]]
    (truth / "quality.csv").write_text("case,quality\na,good\n")
    with pytest.raises(UserError, match="quality.csv: its columns must be study and quality"):
        score.main(["--reference", str(truth), "--prediction", str(mine)])


def test_probability_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, prediction = masks()
    write(tmp_path / "truth" / "a.nii", reference)
    write(tmp_path / "mine" / "a.nii", prediction)
    write(tmp_path / "mine" / "a_probability.nii", np.where(reference, 0.75, 0.25).astype(np.float32))
    words = ("--reference", tmp_path / "truth", "--prediction", tmp_path / "mine")
    tree = scored(capsys, *words)
    assert tree["mean"]["auc"] == 1 and tree["mean"]["brier"] == 0.0625 and tree["mean"]["ece"] == 0.25
    assert sum(one["voxels"] for one in tree["reliability"]) == reference.size
    write(tmp_path / "head" / "a.nii", reference)
    inside = scored(capsys, *words, "--within", tmp_path / "head")
    assert inside["mean"]["auc"] is None and inside["reliability"][0]["voxels"] == 6


def test_what_predict_wrote_is_scored_against_the_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, prediction = masks()
    for number in (1, 2):
        folder = tmp_path / "data" / "TRAINING" / f"case_{number}"
        for kind, array in (("OT", reference), ("CT_MTT", reference)):
            name = f"SMIR.Brain.XX.O.{kind}.{number}"
            path = write(folder / name / f"{name}.nii", array)
            header = nib.load(path).header
            header.set_sform(np.eye(4), code=1)  # as the published files are
            nib.Nifti1Image(np.transpose(array), None, header).to_filename(path)
    lines = []
    for number in (1, 2):
        mask = write(tmp_path / "out" / f"SMIR.my.{number}.nii", prediction)
        maps = write(tmp_path / "out" / f"SMIR.my.{number}_probability.nii", prediction.astype(np.float32))
        lines.append({"study": f"case_{number}", "target": "lesion", "mask": str(mask), "probability": str(maps)})
    (tmp_path / "out" / "predictions.json").write_text(json.dumps({"predictions": lines}))
    tree = scored(capsys, "--reference", tmp_path / "data", "--prediction", tmp_path / "out")
    assert [case["case"] for case in tree["cases"]] == ["case_1", "case_2"]
    assert tree["mean"]["dice"] == pytest.approx(0.6) and "auc" in tree["mean"]


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda truth, mine: (mine / "b.nii").unlink(), r"mine: there is no prediction of b"),
        (lambda truth, mine: (truth / "b.nii.gz").unlink(), r"b\.nii: it has no reference in .*truth"),
        (lambda truth, mine: write(mine / "b.nii", masks()[0], mm=1.0), r"b\.nii: it does not lie on the grid .*mm"),
        (lambda truth, mine: write(mine / "b.nii", masks()[0], shift=9.0), r"b\.nii: .*affines differ"),
        (lambda truth, mine: write(mine / "b.nii", masks()[0][:, 1:]), r"b\.nii: .*shapes"),
        (lambda truth, mine: write(mine / "b.nii", masks()[0] * 0.5), r"b\.nii: it is not a mask of whole labels"),
        (lambda truth, mine: write(mine / "b.nii.gz", masks()[0]), r"lies beside it; keep one"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change, told: str, folders: tuple[Path, Path]) -> None:
    change(*folders)
    with pytest.raises(UserError, match=told):
        score.main(["--reference", str(folders[0]), "--prediction", str(folders[1])])


def test_mistakes_in_the_words(folders: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["--reference", str(folders[0]), "--prediction", str(folders[1])]
    with pytest.raises(UserError, match="rules isles25: there are none of that name.* isles24"):
        score.main([*words, "--rules", "isles25"])
    with pytest.raises(UserError, match="one is a folder, one is not"):
        score.main(["--reference", str(folders[0]), "--prediction", str(folders[1] / "a.nii")])
    with pytest.raises(UserError, match="no such file"):
        score.main(["--reference", str(tmp_path / "x.nii"), "--prediction", str(tmp_path / "y.nii")])


def test_neither_jax_nor_a_picture_library_is_loaded(folders: tuple[Path, Path]) -> None:
    program = (
        "import sys; from jaxstroke import score\n"
        "score.main(sys.argv[1:])\n"
        "assert not {'jax', 'flax', 'matplotlib', 'torch'} & set(sys.modules), sys.modules.keys()"
    )
    words = ["--reference", str(folders[0]), "--prediction", str(folders[1])]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
