"""The doors as a person uses them: the whole way on a small phantom, and every mistake answered by one plain line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jaxstroke import evaluate, phantom, predict, train
from jaxstroke.errors import UserError
from jaxstroke.experiment import catalogue
from jaxstroke.runs.folder import RunFolder
from jaxstroke.training.display import Report
from jaxstroke.training.stop_request import REQUEUE

pytestmark = pytest.mark.slow  # each test trains or uses a network

TINY = {
    "data.size": 32,
    "data.spacing_mm": 6.0,
    "data.batch": 4,
    "data.depth": 2,
    "data.phantom_cases": 7,
    "data.folds": 3,
    "model.width": 4,
    "training.epochs": 1,
    "training.steps_per_epoch": 2,
    "training.slices_per_step": "none",
    "training.validate_every_epochs": 1,
    "augment.probability": 0.0,  # a third of what there is to compile, and asked about elsewhere
}
TINY_CASCADE = {
    **TINY,
    "data.batch": 4,
    "data.depth": 1,
    "model.width": 2,
    "training.steps_per_epoch": 3,
    "cascade.stage1_networks": 2,
}


def words(name: str, out: Path, changes: dict[str, object], *more: str) -> list[str]:
    sets = [word for field, value in changes.items() for word in ("--set", f"{field}={value}")]
    return ["--exp", name, "--out", str(out), *sets, *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run on a small phantom."""
    path = tmp_path_factory.mktemp("doors") / "run"
    assert train.main(words("dme_isles18", path, TINY)) == 0
    return path


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unseen") / "data"
    assert phantom.main(["--layout", "isles2018", "--cases", "3", "--seed", "99", "-o", str(path)]) == 0
    return path


def test_the_phantom_is_named_and_the_run_says_how_it_was_made(run: Path) -> None:
    about = json.loads((run / "about.json").read_text())
    assert about["phantom"] is True and about["seed"] == 0 and len(about["data_fingerprint"]) == 16
    assert set(about["split"]) == {"train", "validation", "test"}
    assert RunFolder(run).experiment().name == "dme_isles18"
    assert (run / "curves.png").stat().st_size > 1000 and list((run / "events").iterdir())


def test_trained_again_it_resumes_and_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(words("dme_isles18", run, TINY, "--epochs", "2")) == 0
    told = capsys.readouterr().out
    assert f"resuming {run} from step 2" in told and "PHANTOM DATA" in told and "next: " in told
    assert train.main(words("dme_isles18", run, TINY, "--epochs", "2", "--resume")) == 0
    assert "it had already run to its end" in capsys.readouterr().out


def test_evaluated_beside_the_rules_with_every_score_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(run)]) == 0
    told = capsys.readouterr().out
    assert "[PHANTOM]" in told and "Dice" in told and "HD95 (mm)" in told and "next: " in told
    assert all(system in told for system in ("dme_isles18", "tmax_6s", "rcbf_30"))
    with (run / "evaluation" / "test" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    test_studies = json.loads((run / "about.json").read_text())["split"]["test"]
    assert {row["study"] for row in rows} == set(test_studies) and len(rows) == 3 * len(test_studies)
    assert all(row["data"] == "phantom" for row in rows)
    summary = json.loads((run / "evaluation" / "test" / "summary.json").read_text())
    mean = np.mean([float(row["dice"]) for row in rows if row["system"] == "tmax_6s"])
    (line,) = [line for line in summary["systems"] if line["system"] == "tmax_6s"]
    assert summary["phantom"] is True and line["scores"]["dice"]["mean"] == pytest.approx(mean)


def test_a_folder_of_unseen_studies_of_several_shapes_is_predicted_on_their_own_grids(
    run: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([str(run), str(unseen), "-o", str(tmp_path), "--intermediates", "gate"]) == 0
    told = capsys.readouterr().out
    assert "TRAINED ON PHANTOMS" in told and "next: " in told
    facts = json.loads((tmp_path / "predictions.json").read_text())
    assert facts["trained_on_phantom"] and facts["studies_are_phantom"] and len(facts["predictions"]) == 3
    shapes = set()
    for line in facts["predictions"]:
        source = nib.load(next((unseen / "TRAINING" / line["study"]).glob("*CT_MTT*/*.nii")))
        mask, probability = nib.load(line["mask"]), nib.load(line["probability"])
        np.testing.assert_array_equal(mask.affine, source.affine)
        assert mask.shape == probability.shape == source.shape and mask.get_data_dtype() == np.uint8
        assert set(np.unique(mask.dataobj)) <= {0, 1}
        values = probability.get_fdata()
        assert 0 <= values.min() and values.max() <= 1
        assert not (np.asarray(mask.dataobj) > values.astype(np.float32).round(6) * 2).any()
        (gate,) = line["intermediates"].values()
        assert nib.load(gate).shape == source.shape
        assert Path(line["picture"]).stat().st_size > 1000
        shapes.add(source.shape)
    assert len(shapes) > 1


def test_a_broken_study_among_many_ends_predict_with_1_and_on_its_own_with_2(
    run: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(unseen, tmp_path / "data")
    study = tmp_path / "data" / "TRAINING" / "case_2"
    (file,) = study.glob("*CT_CBF*/*.nii")
    file.write_bytes(file.read_bytes()[:-50])
    out = tmp_path / "out"
    assert predict.main([str(run), str(tmp_path / "data"), "-o", str(out)]) == 1
    told = capsys.readouterr()
    (line,) = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: 1 of 3 studies could not be predicted") and "predictions.json" in line
    facts = json.loads((out / "predictions.json").read_text())
    assert [line["study"] for line in facts["predictions"]] == ["case_1", "case_3"] and "next: " not in told.out
    assert [(line["study"], line["file"]) for line in facts["failed"]] == [("case_2", str(file))]
    with pytest.raises(UserError, match=f"{file}: it is cut short"):
        predict.main([str(run), str(study), "-o", str(tmp_path / "alone")])
    assert json.loads((tmp_path / "alone" / "predictions.json").read_text())["predictions"] == []


def test_one_study_by_its_own_folder(run: Path, unseen: Path, tmp_path: Path) -> None:
    assert predict.main([str(run), str(unseen / "TRAINING" / "case_1"), "-o", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*.nii"))) == 2


@pytest.mark.parametrize(
    "name, changes, systems",
    [
        ("unet_isles22", {"data.size": 32, "augment.probability": 0.5}, ("unet_isles22", "adc_620")),
        ("crossdomain_v1", {"data.size": 32, "schedule.warmup_epochs": 0}, ("crossdomain_v1", "adc_620")),
        ("unet3d_isles18", {"data.size": 32, "data.depth": 2}, ("unet3d_isles18", "tmax_6s", "rcbf_30")),
        ("perfu_net_isles18", {"data.size": 32, "data.depth": 8}, ("perfu_net_isles18", "tmax_6s", "rcbf_30")),
    ],
)
def test_every_kind_of_example_and_layout_goes_the_whole_way(
    name: str, changes: dict[str, object], systems: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slices of two data sets, two targets of two readers, volumes, and series of 4D CT perfusion."""
    shared = {word: TINY[word] for word in TINY if word.startswith(("training.", "augment."))}
    tiny = {**shared, "data.batch": 4, "data.phantom_cases": 5, "data.folds": 3, "model.width": 2, **changes}
    assert train.main(words(name, tmp_path / "run", tiny, "--scale", "small")) == 0
    capsys.readouterr()
    assert evaluate.main([str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert all(system in told for system in systems) and "[PHANTOM]" in told
    with (tmp_path / "run" / "evaluation" / "test" / "scores.csv").open(newline="") as file:
        judged = {(row["system"], row["target"]) for row in csv.DictReader(file)}
    annotated = ("ADC/R1", "ADC/R2", "DWI/R1", "DWI/R2") if name.startswith("crossdomain") else ("lesion",)
    assert judged == {(system, target) for system in systems for target in annotated}  # every reader judges
    split = json.loads((tmp_path / "run" / "about.json").read_text())
    data = Path(split["data"])
    study = next(path for path in data.rglob(f"*{split['split']['test'][0]}*") if path.is_dir() and path.name != "dwi")
    assert predict.main([str(tmp_path / "run"), str(study), "-o", str(tmp_path / "out")]) == 0
    facts = json.loads((tmp_path / "out" / "predictions.json").read_text())
    targets = catalogue.load(name).data.targets
    assert [line["target"] for line in facts["predictions"]] == list(targets)
    for line in facts["predictions"]:
        assert nib.load(line["mask"]).shape == nib.load(line["probability"]).shape


def test_the_cascade_runs_both_stages_resumes_in_either_and_writes_its_map(
    tmp_path: Path, unseen: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    calls = iter(range(1000))
    stepped = Report.stepped

    def stop_early(self: Report, *figures: float) -> None:
        stepped(self, *figures)  # type: ignore[arg-type]
        if next(calls) in (2, 5):  # after the first step of the second network, and of the second stage
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Report, "stepped", stop_early)
    command = words("cascade_isles18", run, TINY_CASCADE)
    codes, told = [], []
    for _ in range(3):
        codes.append(train.main(command))
        told.append(capsys.readouterr().out)
    assert codes == [REQUEUE, REQUEUE, 0]
    assert "second stage" not in told[0] and f"resuming {run / 'stage1-1'} from step 2" in told[1]
    assert "second stage" in told[1] and f"resuming {run} from step 2" in told[2]
    assert evaluate.main([str(run)]) == 0
    out = tmp_path / "out"
    study = str(unseen / "TRAINING" / "case_1")
    assert predict.main([str(run), study, "-o", str(out), "--intermediates", "synthetic"]) == 0
    synthetic = nib.load(next(out.glob("*synthetic*"))).get_fdata()
    assert np.isfinite(synthetic).all() and synthetic.min() < 0 < synthetic.max(), "about 0, as other images are"
    assert all((run / f"stage1-{number}" / "polarity.json").is_file() for number in (0, 1))


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--exp", "dme_isle18"], "there is no such experiment. Did you mean dme_isles18"),
        ([], "--exp is missing"),
        (["--exp", "dme_isles18", "--set", "data.bach=4"], "data.bach: there is no such field. Did you mean"),
        (["--exp", "dme_isles18", "--set", "data.batch=four"], "data.batch=four: a whole number is expected"),
        (["--exp", "dme_isles18", "--set", "data.batch"], "write it as FIELD=VALUE"),
        (["--exp", "dme_isles18", "--fold", "9"], "folds are counted from 0 to 4"),
        (["--exp", "dme_isles18", "--epochs", "0"], "training.epochs=0: a number from 1 to"),
        (["--exp", "dme_isles18", "--resume", "--fresh"], "contradict"),
        (["--exp", "dme_isles18", "--resume"], "holds no run"),
        (["--exp", "unet_isles18", "--data", "/nowhere"], "no such folder; ISLES 2018 is looked for there. Get"),
        (["--exp", "unet_isles18", "--data", "."], "no study of ISLES 2018 was found there; looked for"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        train.main(arguments)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("experiment.json")), "nothing half-written"


def test_the_environment_names_the_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXSTROKE_DATA", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="gone: there is no such folder"):
        train.main(["--exp", "unet_isles18"])


def test_a_folder_of_another_experiment_is_left_alone_and_fresh_goes_beside_it(run: Path) -> None:
    before = (run / "experiment.json").read_text()
    with pytest.raises(UserError, match=r"another experiment \(model.width: 4 there, 6 now\).*--fresh"):
        train.main(words("dme_isles18", run, {**TINY, "model.width": 6}))
    assert (run / "experiment.json").read_text() == before


@pytest.mark.parametrize("door", [evaluate, predict])
def test_no_run_no_answer(door: object, tmp_path: Path) -> None:
    arguments = [str(tmp_path), *([str(tmp_path), "-o", str(tmp_path / "out")] if door is predict else [])]
    with pytest.raises(UserError, match="no run folder"):
        door.main(arguments)  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


def test_an_unknown_intermediate_names_those_there_are(run: Path, unseen: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing named gat; it can show: memory_gate/gate"):
        predict.main([str(run), str(unseen), "-o", str(tmp_path / "out"), "--intermediates", "gat"])


def test_weights_of_a_damaged_run_are_not_used_silently(run: Path, tmp_path: Path) -> None:
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file():
            target = tmp_path / "checkpoints" / path.relative_to(run / "checkpoints")
            target.parent.mkdir(parents=True, exist_ok=True)
            content = bytearray(path.read_bytes())
            if path.parent.name == "d":
                content[len(content) // 2] ^= 4
            target.write_bytes(bytes(content))
    for name in ("experiment.json", "about.json"):
        (tmp_path / name).write_text((run / name).read_text())
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        evaluate.main([str(tmp_path)])
