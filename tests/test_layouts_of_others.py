"""ISLES 2024, ATLAS, SOOP and anyone's own folder: found, recognised, read, with the quirks that each is known for."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_studies import head, isles2022_root, lesion, save

from jaxstroke.data.inspection import inspect
from jaxstroke.data.layouts import LAYOUTS, detect_layout, find_layout
from jaxstroke.data.lookup import look_up
from jaxstroke.data.source import open_source
from jaxstroke.data.splits import split
from jaxstroke.data.study import read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data
from jaxstroke.phantoms import dataset

CASES = {"isles2024": 4, "atlas": 4, "soop": 1, "folder": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A layout's phantom, made once for all questions; its folder bears the layout's name."""

    @functools.cache
    def make(layout: str) -> Path:
        root = tmp_path_factory.mktemp("phantoms") / layout
        dataset.generate(layout, cases=CASES[layout], seed=3, folder=root)
        return root

    return make


@pytest.fixture(params=CASES)
def phantom(request: pytest.FixtureRequest, made: Callable[[str], Path]) -> Path:
    return made(request.param)


@pytest.mark.slow
def test_the_phantom_lies_as_the_layout_says(phantom: Path) -> None:
    layout = detect_layout(phantom)
    assert layout.name == phantom.name
    cases = layout.find(phantom)
    assert len(cases) == CASES[phantom.name]
    assert all(set(case.masks) == set(layout.targets) for case in cases)
    assert not [problem for problem in inspect(cases).problems if problem.error]
    assert len({layout.prediction_name(case) for case in cases}) == len(cases)
    if layout.name != "soop":
        assert all(case.centre for case in cases)


def test_masks_are_read_as_drawn_and_images_in_their_units(phantom: Path) -> None:
    layout, cases = look_up(phantom)
    images = [word for word in cases[0].images if word not in layout.own_grid]
    drawn = 0
    for case in cases[:4]:
        study = read_study(case, images, layout.targets)
        for word, path in case.masks.items():
            stored = np.squeeze(np.asarray(nib.load(path).dataobj)) > 0.5
            assert study.masks[word].sum() == stored.sum()
            np.testing.assert_array_equal(study.grid.to_file(study.masks[word]), stored)
            drawn += int(stored.sum())
        if "ADC" in images:
            assert 500 < np.median(study.images["ADC"][study.images["ADC"] > 0]) < 1500
    assert drawn


def test_isles2024_almost_one_is_lesion_and_the_stray_file_is_no_second_study(made: Callable[[str], Path]) -> None:
    root = made("isles2024")
    case = find_layout("isles2024").find(root / "train")[1]
    image = nib.load(case.masks["lesion"])
    assert 0.99999 < image.get_fdata().max() < 1 and not image.get_fdata().astype(int).any(), "the release's own trap"
    assert read_study(case, ["CT"], ["lesion"]).masks["lesion"].any()
    strays = list(root.rglob("*lesion-msk.nii"))
    names = [case.masks["lesion"].name for case in find_layout("isles2024").find(root)]
    assert len(strays) == 1 and len(names) == 4 and f"{strays[0].name}.gz" in names
    assert any("space-ncct" not in name for name in names)


def test_atlas_keeps_days_and_all_four_orientations(made: Callable[[str], Path]) -> None:
    cases = find_layout("atlas").find(made("atlas"))
    codes = {"".join(nib.aff2axcodes(nib.load(case.images["T1w"]).affine)) for case in cases}
    assert codes == {"RAS", "LAS", "PSR", "PSL"}
    assert all(int(case.facts["days_post_stroke"]) > 0 for case in cases)
    assert {case.centre for case in cases} == {f"R00{site}" for site in range(1, 5)}


def test_soops_adc_comes_to_lie_on_trace(made: Callable[[str], Path]) -> None:
    """Its own matrix is cut by four pixels on each side: what is left must be the very same values, in place."""
    (case,) = find_layout("soop").find(made("soop"))
    study = read_study(case, ["DWI", "ADC"], ["lesion"])
    own = np.squeeze(nib.load(case.images["ADC"]).get_fdata())
    there = study.grid.to_file(study.images["ADC"])
    assert there.shape != own.shape
    np.testing.assert_allclose(there[4:-4, 4:-4], own, atol=0.5)
    assert not there[:4].any() and not there[:, -4:].any()


# --- anyone's folder ---

SHAPE = (4, 12, 10)


def image(path: Path, seed: int = 0) -> Path:
    return save(path, head(SHAPE, seed).transpose(2, 1, 0), np.diag([2.0, 2, 2, 1]))


def test_a_flat_folder_is_one_study(tmp_path: Path) -> None:
    for name in ("dwi.nii.gz", "adc.nii.gz", "notes.txt"):
        image(tmp_path / "someone" / name) if name.endswith("gz") else (tmp_path / "someone" / name).write_text("")
    layout, (case,) = look_up(tmp_path / "someone")
    assert (layout.name, case.study, set(case.images)) == ("folder", "someone", {"DWI", "ADC"})


def test_plain_names_tell_studies_apart(tmp_path: Path) -> None:
    for name in ("a_dwi.nii.gz", "a_ADC.nii", "a_mask.nii.gz", "b/FLAIR.nii.gz", "b/x.nii.gz", "c-1_ncct.nii.gz"):
        image(tmp_path / name)
    cases = {case.study: case for case in find_layout("folder").find(tmp_path)}
    assert {name: (set(case.images), set(case.masks)) for name, case in cases.items()} == {
        "a": ({"DWI", "ADC"}, {"lesion"}), "b": ({"FLAIR"}, set()), "c-1": ({"CT"}, set())
    }  # fmt: skip
    image(tmp_path / "a_trace.nii")
    with pytest.raises(UserError, match="are both DWI of one study"):
        find_layout("folder").find(tmp_path)


def test_any_pattern_of_names(tmp_path: Path) -> None:
    description = {
        "root": "files",
        "images": {
            "PERF": "{centre}/{patient}/v*/{study}_perf.nii.gz",
            "DWI": "{centre}/{patient}/**/{study}-b.nii.gz",
        },
        "masks": {"core": "drawn/{study}.nii.gz"},
    }
    for name in ("n/p1/v1/s1_perf", "n/p1/v1/deep/s1-b", "s/p2/v2/s2_perf", "drawn/s1", "drawn/unseen"):
        image(tmp_path / "files" / f"{name}.nii.gz")
    (tmp_path / "layout.json").write_text(json.dumps(description))
    first, second = find_layout("folder").find(tmp_path)
    assert (first.study, first.patient, first.centre) == ("s1", "p1", "n")
    assert set(first.images) == {"PERF", "DWI"} and set(first.masks) == {"core"}
    assert (second.study, set(second.images), second.masks) == ("s2", {"PERF"}, {})
    assert find_layout("folder").find(tmp_path / "layout.json") == [first, second]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it must read"),
        ("[]", "it must read"),
        ('{"images": {"DWI": 3}}', "it must read"),
        ('{"images": {"DWI": "dwi.nii.gz"}}', r"needs \{study\}"),
        ("[" * 100_000, "it must read"),
    ],
)
def test_a_description_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "layout.json").write_text(text)
    with pytest.raises(UserError, match=message):
        find_layout("folder").find(tmp_path)


def test_a_table_of_files(tmp_path: Path) -> None:
    image(tmp_path / "x" / "1.nii.gz")
    table = tmp_path / "mine.csv"
    table.write_text(
        "study,patient,centre,split,DWI,mask:lesion\ns1,p1,north,train,x/1.nii.gz,\ns2,,,test,gone.nii.gz,\n"
    )
    layout, (first, second) = look_up(table)
    assert layout.name == "folder" and first.centre == "north" and second.patient == "s2" and not first.masks
    assert layout.fixed_test(table) == {"s2"}
    assert {problem.case for problem in inspect([first, second]).problems} == {"s2"}
    table.write_text("name,DWI\na,b\n")
    with pytest.raises(UserError, match="needs a column study"):
        find_layout("folder").find(table)


# --- where an experiment takes them from ---

WANTED = Data("isles2022", (("DWI",), ("ADC",)), size=16, spacing_mm=2.0)


def test_an_experiment_takes_another_layout_that_has_its_images(tmp_path: Path) -> None:
    for name in ("a_dwi", "a_adc", "b_dwi", "b_adc"):
        image(tmp_path / "mine" / f"{name}.nii.gz")
    (tmp_path / "mine" / "centres.csv").write_text("study,centre\na,north\n")
    (tmp_path / "mine" / "quality.csv").write_text("study,quality\na,motion\n")
    source = open_source(WANTED, tmp_path / "mine", tmp_path)
    assert [case.facts.get("quality") for case in source.cases] == ["motion", None]
    assert source.layout.name == "folder" and [case.centre for case in source.cases] == ["north", ""]
    with pytest.raises(UserError, match="no study of ISLES 2022 was found"):
        open_source(WANTED, tmp_path / "mine", tmp_path, "isles2022")
    image(tmp_path / "other" / "a_flair.nii.gz")
    with pytest.raises(UserError, match="no study of ISLES 2022 was found"):
        open_source(WANTED, tmp_path / "other", tmp_path)


def test_no_layout_takes_another_ones_folder(phantom: Path, tmp_path: Path) -> None:
    """What is recognised is recognised by its own layout alone; the plain names of `folder` are asked last."""
    assert [name for name, layout in LAYOUTS.items() if layout.recognises(phantom)][0] == phantom.name
    isles2022_root(tmp_path, [lesion(SHAPE, {})])
    assert detect_layout(tmp_path).name == "isles2022"


# --- splits by centre ---

PATIENTS = {f"s{index}": f"p{index // 2}" for index in range(24)}
CENTRES = {f"s{index}": "abcd"[index // 6] for index in range(24)}


def test_a_fold_holds_whole_centres() -> None:
    tested = []
    for fold in range(4):
        found = split(PATIENTS, folds=4, fold=fold, validation_fraction=0.2, seed=0, centres_by_study=CENTRES)
        assert len({CENTRES[study] for study in found.test}) == 1 and len(found.test) == 6
        assert not {CENTRES[study] for study in found.test} & {CENTRES[study] for study in found.train}
        assert found.validation and len(found.train) + len(found.validation) == 18
        tested += found.test
    assert sorted(tested) == sorted(PATIENTS)


def test_a_patient_of_two_centres_is_not_trained_on() -> None:
    patients = {**PATIENTS, "s0": "p11"}  # seen in centre a, and in d
    for fold in range(4):
        found = split(patients, folds=4, fold=fold, validation_fraction=0.2, seed=0, centres_by_study=CENTRES)
        sides = [{patients[study] for study in part} for part in (found.train, found.validation, found.test)]
        assert not sides[0] & sides[2] and not sides[0] & sides[1] and not sides[1] & sides[2]


def test_too_few_centres_or_none() -> None:
    arguments = {"fold": 0, "validation_fraction": 0.2, "seed": 0}
    with pytest.raises(UserError, match="5 folds: there are only 4 centres"):
        split(PATIENTS, folds=5, centres_by_study=CENTRES, **arguments)
    with pytest.raises(UserError, match="study s3 has no centre"):
        split(PATIENTS, folds=2, centres_by_study={**CENTRES, "s3": ""}, **arguments)
