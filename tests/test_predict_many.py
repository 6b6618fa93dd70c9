"""One bad study among many: the others are predicted, and what failed and what is odd is on record."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import small_runs
from small_runs import above_half
from small_studies import head, isles2022_root, lesion, save

from jaxstroke import files
from jaxstroke import predict as predict_door
from jaxstroke.data import lookup
from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Grid, Study, read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Preparation, catalogue
from jaxstroke.experiment.overrides import override
from jaxstroke.files import nifti
from jaxstroke.inference import derivative, held_out, many, naming, written
from jaxstroke.inference.predictor import Answer, Predictor
from jaxstroke.inference.system import System
from jaxstroke.inference.system import trained as trained_of
from jaxstroke.models import apply
from jaxstroke.runs.folder import RunFolder

SHAPE = (4, 10, 8)


def bright(study: Study) -> Answer:
    return Answer((study.images["DWI"] > 110)[..., None].astype(np.float32), {})


def predict(cases: list[Case], out: Path) -> many.Outcome:
    system = System("bright", "Bright", ("DWI",), bright, above_half)

    def write(study: Study, answer: Answer) -> list[dict]:
        return written.write(out, study, answer, system, ("lesion",))

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


def test_the_next_study_is_read_and_the_last_written_while_the_network_sees_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading, network and writing of three studies at the same time, and never more than that."""
    cases = isles2022_root(tmp_path / "data", [lesion(SHAPE, {})] * 5)
    names = [case.study for case in cases]
    begun = {(what, name): threading.Event() for what in ("read", "answer") for name in names}
    read_now = many.read_with

    def read(preparation: Preparation, case: Case, *words: object, **options: object) -> Study:
        begun["read", case.study].set()
        return read_now(preparation, case, *words, **options)  # type: ignore[arg-type]

    def answer(study: Study) -> Answer:
        place = names.index(study.case.study)
        begun["answer", study.case.study].set()
        if place + 1 < len(names):
            assert begun["read", names[place + 1]].wait(10), "the next study is read beside the network"
        assert not any(begun["read", name].is_set() for name in names[place + 2 :]), "one ahead, no more"
        return bright(study)

    def write(study: Study, given: Answer) -> list[dict]:
        place = names.index(study.case.study)
        if place + 1 < len(names):
            assert begun["answer", names[place + 1]].wait(10), "the network goes on beside the writing"
        return [{"study": study.case.study}]

    monkeypatch.setattr(many, "read_with", read)
    system = System("bright", "Bright", ("DWI",), answer, lambda values, spacing_mm: values > 0.5)
    outcome = many.predict(cases, system, write, lambda *_, **__: None)
    assert [line["study"] for line in outcome.done] == names and not outcome.failed


def test_studies_of_any_shape_are_one_compilation(header_of: Callable[[tuple[int, ...]], nifti.Header]) -> None:
    """Six shapes, smaller and larger than the network's window, of one slice and of more than it takes at a time."""
    experiment = override(
        catalogue.load("unet_isles22", scale="small"), {"data.size": 32, "data.spacing_mm": 2.0, "model.width": 2}
    )
    network = apply.build(experiment)
    drawn = jax.jit(lambda key: apply.initialise(network, experiment.data, key))(jax.random.key(0))
    predictor = Predictor(experiment, drawn)
    shapes = [(1, 20, 24), (3, 32, 32), (11, 40, 28), (2, 57, 61), (9, 33, 80), (17, 25, 31)]
    for seed, shape in enumerate(shapes):
        images = {word: head(shape, seed) for word in ("DWI", "ADC")}
        case = Case("s", "p", {}, {}, "isles2022")
        study = Study(case, images, {}, (5.0, 2.0, 2.0), Grid(header_of(shape), np.array([[2, 1], [1, 1], [0, 1]])))
        assert predictor.study(study).probabilities.shape == (*shape, 1)
    assert predictor._run._cache_size() == 1


@pytest.mark.slow
def test_fifty_studies_of_mixed_shapes_compile_a_handful_of_programs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the door's own rooms, everything that JAX compiles counted, small programs too; shapes are all unlike."""
    run = small_runs.drawn_run(tmp_path / "run", 3, data=tmp_path, split={"train": [], "validation": [], "test": []})
    rng = np.random.default_rng(4)
    masks = [lesion((int(rng.integers(1, 20)), 24 + number % 7, 20 + number // 7), {}) for number in range(50)]
    cases = isles2022_root(tmp_path / "data", masks)
    assert len({mask.shape for mask in masks}) == 50
    trained, experiment = trained_of([run])
    monkeypatch.setattr(written, "overlay", lambda *_, **__: None)
    write = functools.partial(written.write, tmp_path / "out", system=trained, targets=experiment.data.targets)
    counts = []
    with jax.log_compiles(), caplog.at_level(logging.DEBUG):
        for some in (cases[:1], cases[1:]):
            caplog.clear()
            assert len(many.predict(some, trained, write, lambda *_, **__: None).done) == len(some)
            counts.append(sum(record.getMessage().startswith("Compiling ") for record in caplog.records))
    assert 1 <= counts[0] <= 5, "the first study has the network compiled"
    assert counts[1] == 0, "and no other has anything compiled"


@pytest.fixture
def header_of(tmp_path: Path) -> Callable[[tuple[int, ...]], nifti.Header]:
    return lambda shape: nifti.read_header(save(tmp_path / "any.nii", np.zeros(shape[::-1], np.uint8)))


# --- what the files are called ---


RELEASE = Case("sub-strokecase0001", "p", {"DWI": Path("x/sub-strokecase0001_ses-0001_dwi.nii.gz")}, {}, "isles2022")
SESSION = Case("1", "1", {"ADC": Path("sub-1_ses-2_adc.nii.gz")}, {}, "isles2022")
CONTAINER = Case("1a2b", "1a2b", {"DWI": Path("dwi-brain-mri/1a2b.mha")}, {}, "isles2022")
OWN = Case("a 1", "p", {"CT": Path("a 1/ct.nii.gz"), "Tmax": Path("a 1/tmax.nii.gz")}, {}, "folder")
PERFUSION = Case("case_1", "p", {"MTT": Path("SMIR.Brain.XX.O.CT_MTT.345564.nii")}, {}, "isles2018")


@pytest.mark.parametrize(
    ("word", "case", "kind", "target", "expected"),
    [
        ("", RELEASE, "mask", "", "sub-strokecase0001_ses-0001_msk.nii.gz"),
        ("", RELEASE, "probability", "", "sub-strokecase0001_ses-0001_msk_probability.nii.gz"),
        ("", RELEASE, "picture", "ADC/R1", "sub-strokecase0001_ses-0001_msk_adc-r1.png"),
        ("", RELEASE, "decoder1/gate", "", "sub-strokecase0001_ses-0001_msk_decoder1-gate.nii.gz"),
        ("isles2018", PERFUSION, "mask", "", "SMIR.jaxstroke.345564.nii"),
        ("isles2018", PERFUSION, "probability", "", "SMIR.jaxstroke.345564_probability.nii"),
        ("isles2022", RELEASE, "mask", "", "images/stroke-lesion-segmentation/sub-strokecase0001_ses-0001_dwi.mha"),
        ("isles2022", RELEASE, "probability", "", "sub-strokecase0001_probability.nii.gz"),
        ("isles2024", OWN, "mask", "", "images/stroke-lesion-segmentation/ct.mha"),
        ("", CONTAINER, "mask", "", "1a2b_msk.mha"),
        ("", CONTAINER, "probability", "", "1a2b_msk_probability.mha"),
        ("isles2022", CONTAINER, "mask", "", "images/stroke-lesion-segmentation/1a2b.mha"),
        ("bids", SESSION, "mask", "", "sub-1/ses-2/dwi/sub-1_ses-2_desc-jaxstroke_mask.nii.gz"),
        ("bids", OWN, "mask", "ADC/R1", "sub-a1/anat/sub-a1_label-ADCR1_desc-jaxstroke_mask.nii.gz"),
        ("bids", OWN, "probability", "", "sub-a1/anat/sub-a1_desc-jaxstroke_probseg.nii.gz"),
        ("bids", OWN, "entropy", "", "sub-a1/anat/sub-a1_desc-jaxstrokeEntropy_map.nii.gz"),
    ],
)  # fmt: skip
def test_names(word: str, case: Case, kind: str, target: str, expected: str) -> None:
    assert naming.naming(word)(case, kind, target) == Path(expected)


def test_two_studies_of_one_name_are_refused_before_any_is_predicted() -> None:
    other = dataclasses.replace(RELEASE, images={"DWI": Path("y/sub-strokecase0001_ses-0001_dwi.nii.gz")})
    naming.check_apart(naming.naming("bids"), [RELEASE, OWN])
    with pytest.raises(UserError, match=r"the masks of x/.* and of y/.* would both bear this name"):
        naming.check_apart(naming.naming(), [RELEASE, OWN, other])


def test_a_bids_derivative_says_what_made_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    files.write_sealed(run.path / "experiment.json", dataclasses.asdict(catalogue.load("unet_isles22", scale="small")))
    files.write_sealed(run.path / "about.json", small_runs.about(True, tmp_path, ["a"]))
    files.write_json(run.path / "checkpoints" / "step-00000003" / "manifest.json", {})
    mask = tmp_path / "out" / naming.naming("bids")(RELEASE, "mask", "")
    derivative.describe(tmp_path / "out", [{"mask": str(mask), "target": "lesion", "missing": ["ADC"]}], [run])
    described = files.read_json(tmp_path / "out" / "dataset_description.json")
    assert described["DatasetType"] == "derivative" and described["GeneratedBy"][0]["Name"] == "jaxstroke"
    sidecar = files.read_json(mask.with_name(mask.name.replace(".nii.gz", ".json")))
    (made_by,) = sidecar["Runs"]
    assert (made_by["Network"], made_by["Run"], made_by["Data"]) == ("unet_isles22", "run", "0123456789abcdef")
    assert made_by["Checksum"].startswith("step-00000003:") and made_by["TrainedOnPhantom"] is True
    assert "not a medical device" in sidecar["Warning"] and sidecar["Missing"] == ["ADC"]


def test_runs_and_studies_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        files.write_json(tmp_path / name / "experiment.json", {})
    words = [str(tmp_path / name) for name in ("a", "b", "s1", "s2", "s3")]
    for study in words[2:]:
        Path(study).mkdir()
    gone = [words[0], str(tmp_path / "gone")]
    assert predict_door._apart(gone, words[2]) == (gone, [Path(words[2])]), "it is told as a run that is not there"
    assert predict_door._apart(words[:4], words[4]) == (words[:2], [Path(word) for word in words[2:]])
    assert predict_door._apart(words[2:3], words[0]) == (words[2:3], [Path(words[0])])


def test_studies_of_another_layout_are_found_where_the_runs_own_is_not(tmp_path: Path) -> None:
    for word in ("dwi", "adc"):
        save(tmp_path / "flat" / f"a1_{word}.nii.gz", np.ones((4, 4, 4), np.float32))
        save(tmp_path / "flat" / f"b2_{word}.nii.gz", np.ones((4, 4, 4), np.float32))
    (one,) = isles2022_root(tmp_path / "own", [lesion(SHAPE, {})])
    layout = find_layout("isles2022")
    assert [case.study for case in lookup.studies_at(tmp_path / "flat", layout)] == ["a1", "b2"]
    assert [case.layout for case in lookup.studies_at(tmp_path / "own", layout)] == ["isles2022"]
    assert [case.study for case in lookup.studies_at(tmp_path / "own" / one.study, layout)] == [one.study]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no study of ISLES 2022 lies there"):
        lookup.studies_at(tmp_path / "empty", layout)


def test_a_table_that_was_named_as_the_data_is_a_runs_own_data(tmp_path: Path) -> None:
    (tmp_path / "studies.csv").write_text("study,DWI\n")
    about, data = {"data": str(tmp_path / "studies.csv"), "split": {}}, catalogue.load("unet_isles22").data
    assert held_out._is_own(about, data, tmp_path / "studies.csv")
    with pytest.raises(UserError, match="gone: there is no such folder"):
        held_out._is_own(about, data, tmp_path / "gone")


def test_how_long_each_part_took_and_how_long_the_network_stood_still_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six studies; where writing alone is slow, the network stands still for it, but for the last study's."""
    cases = isles2022_root(tmp_path / "data", [lesion(SHAPE, {})] * 6)
    study = read_study(cases[0], ("DWI",))

    def outcome(**seconds: float) -> many.Outcome:
        def after(part: str, value: object) -> Any:
            time.sleep(seconds[part])
            return value

        monkeypatch.setattr(many, "read_with", lambda *_, **__: after("reading", study))
        answer = bright(study)
        system = System("slow", "Slow", ("DWI",), lambda _: after("network", answer), above_half)
        return many.predict(cases, system, lambda *_: after("writing", []), lambda *_, **__: None)

    each = outcome(reading=0.02, network=0.04, writing=0.01).seconds
    assert each["reading"] >= 0.12 and each["network"] >= 0.24 and each["writing"] >= 0.06
    slow = outcome(reading=0.0, network=0.0, writing=0.2)
    assert slow.seconds["writing"] >= 1.2 and slow.seconds["waiting"] >= 0.8 > 0.4 > slow.seconds["network"]
    assert slow.told().startswith("reading 0.") and "; the network stood still for " in slow.told()
