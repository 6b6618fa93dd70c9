"""The three layouts: files are found by exact kind, patients are kept together, messages say what was looked for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from small_studies import isles2022_root, lesion

from jaxstroke.data.layouts import LAYOUTS, adc_units, detect_layout, find_layout, study_from_folder
from jaxstroke.errors import UserError
from jaxstroke.phantoms.marker import phantom_facts

KINDS = ("CT", "CT_4DPWI", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "OT")
PUBLISHED = Path(__file__).parent.parent.parent / "shared" / "data" / "isles2018_case_to_patient.csv"


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def isles2018_case(folder: Path, kinds: tuple[str, ...] = KINDS) -> None:
    for number, kind in enumerate(kinds, start=345560):
        name = f"SMIR.Brain.XX.O.{kind}.{number}"
        touch(folder / name / f"{name}.nii")


# --- ISLES 2018 ---


def test_isles2018_finds_each_kind_by_its_exact_name(tmp_path: Path) -> None:
    isles2018_case(tmp_path / "TRAINING" / "case_1")
    (case,) = find_layout("isles2018").find(tmp_path)
    kinds = {word: path.name.split(".")[-3] for word, path in case.images.items()}
    assert kinds == {
        "CT": "CT", "CTP": "CT_4DPWI", "CBF": "CT_CBF", "CBV": "CT_CBV", "MTT": "CT_MTT", "Tmax": "CT_Tmax"
    }  # fmt: skip
    assert case.masks["lesion"].name == "SMIR.Brain.XX.O.OT.345566.nii"
    assert find_layout("isles2018").prediction_name(case) == "SMIR.jaxstroke.345564.nii"


def test_isles2018_takes_the_names_of_an_early_export(tmp_path: Path) -> None:
    isles2018_case(tmp_path / "TRAINING" / "case_3", ("CT", "MR_4DPWI", "CT_CBF", "CT_CBV", "MR_MTT", "MR_Tmax", "OT"))
    (case,) = find_layout("isles2018").find(tmp_path)
    assert set(case.images) == {"CT", "CTP", "CBF", "CBV", "MTT", "Tmax"}


def test_isles2018_numbers_are_numbers_and_testing_has_no_masks(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        isles2018_case(tmp_path / "TRAINING" / f"case_{number}")
        isles2018_case(tmp_path / "TESTING" / f"case_{number}", KINDS[:-1])
    layout = find_layout("isles2018")
    assert [case.study for case in layout.find(tmp_path)] == ["case_1", "case_9", "case_10"]
    assert layout.find(tmp_path / "TRAINING") == layout.find(tmp_path)
    testing = layout.find(tmp_path / "TESTING")
    assert all(not case.masks for case in testing)
    assert not {case.patient for case in testing} & {case.patient for case in layout.find(tmp_path)}


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the list of cases and patients is not beside the checkout")
def test_isles2018_patients_are_the_published_ones(tmp_path: Path) -> None:
    with PUBLISHED.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        isles2018_case(tmp_path / f"{row['partition'].upper()}ING" / row["case"], KINDS[4:5])
    for folder, partition, cases, patients in (("TRAINING", "train", 94, 63), ("TESTING", "test", 62, 40)):
        found = {case.study: case.patient for case in find_layout("isles2018").find(tmp_path / folder)}
        assert found == {r["case"]: f"{partition}_{r['patient']}" for r in rows if r["partition"] == partition}
        assert (len(found), len(set(found.values()))) == (cases, patients)


def test_isles2018_slabs_of_one_patient(tmp_path: Path) -> None:
    """Cases 1 and 2 are slabs of one patient, as every list of the data set says; 9 and 10 are two patients."""
    for number in (1, 2, 3, 9, 10):
        isles2018_case(tmp_path / "TRAINING" / f"case_{number}")
    patient = {case.study: case.patient for case in find_layout("isles2018").find(tmp_path)}
    assert patient["case_1"] == patient["case_2"] != patient["case_3"]
    assert patient["case_9"] != patient["case_10"]


def test_a_phantom_says_whose_its_studies_are(tmp_path: Path) -> None:
    for number in (1, 2):
        isles2018_case(tmp_path / "TRAINING" / f"case_{number}")
    (tmp_path / "phantom.json").write_text(json.dumps({"seed": 7, "patients": {"case_1": "a", "case_2": "b"}}))
    cases = find_layout("isles2018").find(tmp_path / "TRAINING")
    assert [case.patient for case in cases] == ["a", "b"]
    for folder in (tmp_path, tmp_path / "TRAINING", tmp_path / "TRAINING" / "case_1"):
        assert (phantom_facts(folder) or {})["seed"] == 7
    assert phantom_facts(tmp_path.parent) is None


def test_a_broken_phantom_file_is_not_taken_for_real_data(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"patients": 3}'):
        (tmp_path / "phantom.json").write_text(text)
        with pytest.raises(UserError, match="phantom"):
            phantom_facts(tmp_path)


def test_two_files_of_one_kind_are_an_error(tmp_path: Path) -> None:
    isles2018_case(tmp_path / "TRAINING" / "case_1")
    touch(tmp_path / "TRAINING" / "case_1" / "SMIR.Brain.XX.O.MR_MTT.9.nii")
    with pytest.raises(UserError, match="two files of MTT"):
        find_layout("isles2018").find(tmp_path)


# --- ISLES 2022 ---


@pytest.mark.parametrize("labels", ["derivatives", "derivatives/labels"])
@pytest.mark.parametrize("images", ["", "rawdata"])
@pytest.mark.parametrize("middle", ["dwi", ""])
def test_isles2022_in_all_its_variants(tmp_path: Path, images: str, labels: str, middle: str) -> None:
    for number in (1, 2):
        name = f"sub-strokecase000{number}"
        session = tmp_path / images / name / "ses-0001"
        for word in ("dwi", "adc"):
            touch(session / middle / f"{name}_ses-0001_{word}.nii.gz")
        touch(session / ("anat" if middle else "") / f"{name}_ses-0001_{'FLAIR' if middle else 'flair'}.nii.gz")
        touch(tmp_path / labels / name / "ses-0001" / f"{name}_ses-0001_msk.nii.gz")
    layout = find_layout("isles2022")
    cases = layout.find(tmp_path)
    assert [case.study for case in cases] == ["sub-strokecase0001", "sub-strokecase0002"]
    assert all(set(case.images) == {"DWI", "ADC", "FLAIR"} and set(case.masks) == {"lesion"} for case in cases)
    assert layout.prediction_name(cases[0]) == "sub-strokecase0001_ses-0001_msk.nii.gz"
    if images:
        assert layout.find(tmp_path / "rawdata") == cases
    assert study_from_folder(tmp_path / images / "sub-strokecase0002", layout) == cases[1]


def test_isles2022_two_sessions_are_two_studies_of_one_patient(tmp_path: Path) -> None:
    for session in ("ses-0001", "ses-0002"):
        touch(tmp_path / "sub-a" / session / "dwi" / f"sub-a_{session}_dwi.nii.gz")
    cases = find_layout("isles2022").find(tmp_path)
    assert [case.study for case in cases] == ["sub-a_ses-0001", "sub-a_ses-0002"]
    assert {case.patient for case in cases} == {"sub-a"}
    with pytest.raises(UserError, match="has 2 sessions"):
        study_from_folder(tmp_path / "sub-a", find_layout("isles2022"))


@pytest.mark.parametrize("factor", [1.0, 1e-3, 1e-6])
def test_adc_in_any_unit_is_the_same(factor: float) -> None:
    adc = np.array([0, -5, 500, 800, 900, 3000], np.float32)
    np.testing.assert_allclose(adc_units.micro_mm2_per_s(adc * np.float32(factor)), adc, rtol=1e-5)


def test_an_adc_map_without_a_head_is_left_alone() -> None:
    empty = np.zeros((2, 2), np.float32)
    assert adc_units.micro_mm2_per_s(empty) is empty


# --- two readers ---


def two_reader_root(root: Path, rows: str) -> Path:
    for number in (1, 2):
        for word in ("adc", "dwi", "adc_r1", "dwi_r1", *(("adc_r2", "dwi_r2") if number == 2 else ())):
            touch(root / f"study_00{number}" / f"{word}.nii.gz")
    (root / "studies.csv").write_text(rows)
    return root


def test_two_reader(tmp_path: Path) -> None:
    rows = "study,patient,group,split\nstudy_001,p7,acute,train\nstudy_002,p8,acute,test\n"
    root = two_reader_root(tmp_path, rows)
    layout = find_layout("two_reader")
    first, second = layout.find(root)
    assert (first.patient, second.patient) == ("p7", "p8")
    assert set(first.masks) == {"ADC/R1", "DWI/R1"} and set(second.masks) == set(layout.targets)
    assert layout.fixed_test(root) == {"study_002"}
    assert study_from_folder(root / "study_002", layout) == second


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("study,patient,group,split\nstudy_001,p7,acute,train\n", "study_002 is not in it"),
        ("study,patient\nstudy_001,p7\n", "its columns must be"),
        ("", "its columns must be"),
        ("study,patient,group,split\nstudy_001,,acute,train\n", "line 2"),
        ("study,patient,group,split\nstudy_001,p,acute,maybe\n", "line 2"),
    ],
)
def test_two_reader_table_must_be_whole(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_layout("two_reader").find(two_reader_root(tmp_path, rows))


# --- all of them ---


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_an_empty_folder_says_what_was_looked_for_and_where_to_get_it(tmp_path: Path, name: str) -> None:
    layout = find_layout(name)
    with pytest.raises(UserError) as caught:
        layout.find(tmp_path)
    assert layout.expects in str(caught.value) and layout.source in str(caught.value)
    with pytest.raises(UserError, match="there is no such folder"):
        layout.find(tmp_path / "none")
    with pytest.raises(UserError, match="no study of"):
        study_from_folder(tmp_path, layout)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_layout_is_whole(name: str) -> None:
    layout = find_layout(name)
    assert layout.name == name and set(layout.units) == set(layout.modalities)
    assert set(layout.calibrate) | set(layout.windows) | set(layout.hounsfield) <= set(layout.modalities)


def test_the_layout_of_a_folder_is_told(tmp_path: Path) -> None:
    isles2018_case(tmp_path / "a" / "TRAINING" / "case_1")
    isles2022_root(tmp_path / "b", [lesion((2, 8, 8), {})])
    rows = "study,patient,group,split\nstudy_001,p7,acute,train\nstudy_002,p8,acute,test\n"
    two_reader_root(tmp_path / "c", rows)
    assert [detect_layout(tmp_path / one).name for one in "abc"] == ["isles2018", "isles2022", "two_reader"]
    with pytest.raises(UserError, match="no known data set"):
        detect_layout(tmp_path)
    with pytest.raises(UserError, match="Did you mean isles2018"):
        find_layout("isles18")
