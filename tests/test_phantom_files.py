"""The phantom's files: quirks of the public sets kept, the same bytes for the same seed, all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from jaxstroke import phantom
from jaxstroke.data.layouts import find_layout
from jaxstroke.errors import UserError
from jaxstroke.phantoms import dataset, isles2018, two_reader


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def public18(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "isles2018"
    dataset.generate("isles2018", cases=3, seed=7, folder=folder)
    return folder


def load18(folder: Path, case: str, modality: str) -> nibabel.Nifti1Image:
    (path,) = (folder / "TRAINING" / case).glob(f"SMIR.Brain.XX.O.{modality}.*/*.nii")
    assert path.stem == path.parent.name
    return nibabel.load(path)  # pyright: ignore[reportReturnType]


def test_isles2018_files_and_their_quirks(public18):
    dtypes = {
        "CT": "int32",
        "CT_CBF": "uint16",
        "CT_CBV": "uint16",
        "CT_MTT": "float64",
        "CT_Tmax": "float64",
        "OT": "uint8",
    }
    for case in ("case_1", "case_2", "case_3"):
        assert len(list((public18 / "TRAINING" / case).iterdir())) == len(dtypes)  # no 4D series unless asked for
        for modality, dtype in dtypes.items():
            image = load18(public18, case, modality)
            assert image.get_data_dtype() == np.dtype(dtype)
            assert image.shape[:2] == (256, 256) and image.shape[2] in (2, 4, 8, 16, 22)
            assert np.array_equal(image.affine, np.eye(4)) and image.header["sform_code"] == 1
            zooms = image.header.get_zooms()
            assert 0.9 < zooms[0] == zooms[1] < 1.05 and 5 <= zooms[2] <= 10
        assert load18(public18, case, "CT").get_fdata()[0, 0, 0] == -23
    cbf = load18(public18, "case_3", "CT_CBF").get_fdata()
    assert 100 < np.median(cbf[cbf > 0]) < 450


def test_two_cases_are_slabs_of_one_patient_and_the_marker_says_so(public18):
    marker = json.loads((public18 / "phantom.json").read_text())
    assert marker["patients"] == {"case_1": "patient_1", "case_2": "patient_1", "case_3": "patient_2"}
    lower, upper = (isles2018.make_study(7, index, with_ctp=False)["CT"] for index in (0, 1))
    step = upper[1][:3, 3] - lower[1][:3, 3]
    assert np.linalg.norm(step) == pytest.approx(lower[0].shape[0] * np.linalg.norm(lower[1][:3, 2]))
    below, above = (ct[0][face] > 500 for ct, face in ((lower, -1), (upper, 0)))
    assert np.count_nonzero(below & above) > 0.4 * np.count_nonzero(below)  # the skull goes on from slab to slab


@pytest.mark.slow
def test_a_study_depends_on_seed_and_number_alone(public18, tmp_path):
    dataset.generate("isles2018", cases=2, seed=7, folder=tmp_path / "two", workers=2)
    three, two = contents(public18), contents(tmp_path / "two")
    assert {name: digest for name, digest in three.items() if "case_3" not in name and name != "phantom.json"} == {
        name: digest for name, digest in two.items() if name != "phantom.json"
    }
    one, other = (isles2018.make_study(seed, 0, with_ctp=False)["CT"][0] for seed in (7, 8))
    assert not np.array_equal(one, other)


def test_the_4d_series_and_the_maps_computed_from_it():
    study = isles2018.make_study(3, 0, with_ctp=True)
    series = study["CT_4DPWI"][0]
    assert series.dtype == np.float32 and 43 <= series.shape[0] <= 64
    assert series.shape[1:] == study["CT"][0].shape
    brain = study["CT_CBF"][0] > 0
    curve = series[:, brain].mean(axis=1)
    assert 3 < curve.max() - curve[:5].mean() < 25  # enhancement of the brain, HU
    fast = isles2018.make_study(3, 0, with_ctp=False)
    assert np.array_equal(fast["OT"][0], study["OT"][0])
    assert np.median(fast["CT_CBF"][0][brain]) == pytest.approx(np.median(study["CT_CBF"][0][brain]), rel=0.1)


@pytest.mark.slow
def test_isles2022_files_and_their_quirks(tmp_path):
    dataset.generate("isles2022", cases=2, seed=1, folder=tmp_path / "p")
    root = tmp_path / "p"
    rows = (root / "participants.tsv").read_text().splitlines()
    assert rows[0].split("\t")[0] == "participant_id" and len(rows) == 3
    stem = "sub-strokecase0002/ses-0001/{}sub-strokecase0002_ses-0001_{}.nii.gz"
    places = (("dwi/", "dwi"), ("dwi/", "adc"), ("anat/", "FLAIR"))
    dwi, adc, flair = (nibabel.load(root / stem.format(*place)) for place in places)
    mask = nibabel.load(root / "derivatives" / stem.format("", "msk"))
    assert dwi.shape == adc.shape == mask.shape != flair.shape
    assert np.allclose(dwi.affine, mask.affine) and np.abs(dwi.affine[:3, :3]).min() > 0  # one grid, oblique
    assert (dwi.get_data_dtype(), mask.get_data_dtype()) == (np.float64, np.uint16)
    values = dwi.get_fdata()
    assert 0.75 < np.mean(values == 0) < 0.9
    assert set(np.unique(mask.get_fdata())) <= {0.0, 1.0}
    assert not np.any(mask.get_fdata()[values == 0])


@pytest.mark.slow
def test_two_reader_files(tmp_path):
    dataset.generate("two_reader", cases=3, seed=1, folder=tmp_path / "p")
    rows = (tmp_path / "p" / "studies.csv").read_text().splitlines()
    assert rows[0] == "study,patient,group,split" and rows[3].endswith("stroke,test")
    expected = {"adc.nii.gz", "dwi.nii.gz", "adc_r1.nii.gz", "dwi_r1.nii.gz"}
    assert {path.name for path in (tmp_path / "p" / "study_001").iterdir()} == expected
    assert {path.name for path in (tmp_path / "p" / "study_003").iterdir()} == expected | {
        "adc_r2.nii.gz",
        "dwi_r2.nii.gz",
    }
    image = nibabel.load(tmp_path / "p" / "study_001" / "dwi.nii.gz")
    assert 20 <= image.shape[2] <= 26
    assert 0.83 <= image.header.get_zooms()[0] <= 0.94 and 5.5 <= image.header.get_zooms()[2] <= 7.2  # pyright: ignore


@pytest.mark.slow
def test_the_loader_reads_what_was_written(public18, tmp_path):
    cases = find_layout("isles2018").find(public18)
    assert [(case.study, case.patient) for case in cases] == [
        ("case_1", "patient_1"), ("case_2", "patient_1"), ("case_3", "patient_2")
    ]  # fmt: skip
    assert set(cases[0].images) == {"CT", "CBF", "CBV", "MTT", "Tmax"} and set(cases[0].masks) == {"lesion"}
    for layout, images in (("isles2022", {"DWI", "ADC", "FLAIR"}), ("two_reader", {"DWI", "ADC"})):
        dataset.generate(layout, cases=1, seed=3, folder=tmp_path / layout)
        (case,) = find_layout(layout).find(tmp_path / layout)
        assert set(case.images) == images and case.masks


def test_two_reader_holds_the_published_shares():
    assert sum(map(two_reader.is_control, range(82))) == 7
    assert sum(map(two_reader.is_test, range(82))) == 31


# --- all or nothing ----------------------------------------------------------------------------------------------


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def breaks(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(two_reader, "write_study", breaks)
    with pytest.raises(KeyboardInterrupt):
        dataset.generate("two_reader", cases=1, seed=0, folder=tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_refused_and_the_same_phantom_kept(public18, tmp_path):
    before = contents(public18)
    dataset.generate("isles2018", cases=3, seed=7, folder=public18)
    assert contents(public18) == before
    with pytest.raises(UserError, match="another phantom.*seed"):
        dataset.generate("isles2018", cases=3, seed=8, folder=public18)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        dataset.generate("isles2018", cases=3, seed=8, folder=tmp_path)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"layout": "brats"}, "brats"),
        ({"cases": 0}, "--cases 0"),
        ({"seed": -1}, "--seed -1"),
        ({"layout": "two_reader", "with_ctp": True}, "with-ctp"),
    ],
)
def test_mistakes_are_named(tmp_path, words, text):
    words = {"layout": "isles2018", "cases": 1, "seed": 0, "folder": tmp_path / "p", **words}
    with pytest.raises(UserError, match=text):
        dataset.generate(**words)
    assert list(tmp_path.iterdir()) == []


def test_the_door_says_that_it_is_a_phantom_and_what_comes_next(tmp_path, capsys):
    assert phantom.main(["--layout", "two_reader", "--cases", "1", "--seed", "2", "-o", str(tmp_path / "p")]) == 0
    said = capsys.readouterr().out
    assert "PHANTOM DATA" in said and "jaxstroke.predict RUN" in said  # one patient is too few to train on
    assert phantom.main(["--layout", "two_reader", "--cases", "1", "--seed", "2", "-o", str(tmp_path / "p")]) == 0
    assert "already holds" in capsys.readouterr().out


def test_the_door_opens_without_slow_packages():
    slow = {"numpy", "scipy", "jax", "nibabel"}
    code = f"import sys; import jaxstroke.phantom; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
