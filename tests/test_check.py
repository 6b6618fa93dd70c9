"""`check`: each fault that is planted is named with its study, its file and its kind, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_studies import isles2022_root, lesion

from jaxstroke import check
from jaxstroke.data.inspection import inspect
from jaxstroke.data.layouts import find_layout
from jaxstroke.errors import UserError

SHAPE = (6, 24, 20)
MASK = lesion(SHAPE, {2: (10, 8), 3: (10, 8)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    isles2022_root(tmp_path, [MASK] * 3)
    return tmp_path


def path_of(root: Path, word: str, number: int = 2) -> Path:
    return next(root.rglob(f"*case000{number}*_{word}.nii.gz"))


def change(path: Path, *, values: Callable | None = None, affine: Callable | None = None) -> None:
    image = nib.load(path)
    array, place = image.get_fdata(), image.affine
    array = values(array) if values else array
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine(place) if affine else place), path)


def put(place: tuple[int, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def changed(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return changed


def shifted(affine: np.ndarray) -> np.ndarray:
    return affine + np.array([[0, 0, 0, 0.002], *[[0] * 4] * 3])


def turned(affine: np.ndarray) -> np.ndarray:
    """By .15 degrees about the first axis."""
    angle = np.radians(0.15)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return np.block([[(turn @ affine)[:3, :3], affine[:3, 3:]], [affine[3:]]])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


ERRORS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "cut short": ("unreadable", "adc", truncate),
    "text": ("unreadable", "dwi", lambda path: path.write_text("hello")),
    "other shape": ("shape", "adc", lambda path: change(path, values=lambda array: array[:, :, :-1])),
    "2 um aside": ("geometry", "adc", lambda path: change(path, affine=shifted)),
    "turned": ("geometry", "msk", lambda path: change(path, affine=turned)),
    "NaN": ("not_finite", "dwi", lambda path: change(path, values=put((9, 12, 3), np.nan))),
    "Inf": ("not_finite", "msk", lambda path: change(path, values=put((9, 12, 3), np.inf))),
    "label 2": ("labels", "msk", lambda path: change(path, values=lambda array: array * 2)),
    "halves": ("labels", "msk", lambda path: change(path, values=lambda array: array * 0.5)),
    "outside": ("mask_outside", "msk", lambda path: change(path, values=put((slice(0, 2), 0, 2), 1))),
    "series": ("dimensions", "dwi", lambda path: change(path, values=lambda array: np.stack([array, array], axis=-1))),
    "units": ("units", "adc", lambda path: change(path, values=lambda array: array * 20)),
}
WARNINGS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "empty": ("empty_mask", "msk", lambda path: change(path, values=lambda array: array * 0)),
    "negative": ("negative_adc", "adc", lambda path: change(path, values=put((9, 12, 3), -1))),
    "units": ("mixed_units", "adc", lambda path: change(path, values=lambda array: array * 1000)),
    "zeros": ("all_zero", "dwi", lambda path: change(path, values=lambda array: array * 0)),
    "huge": ("huge_values", "dwi", lambda path: change(path, values=put((9, 12, 3), 1e38))),
}


def of(root: Path) -> tuple[list, list]:
    found = inspect(find_layout("isles2022").find(root)).as_json()
    assert len(found["cases"]) == len(list(root.glob("sub-*")))
    return found["errors"], found["warnings"]


def test_only_images_that_are_there_are_said_to_lie_on_a_grid_of_their_own(root: Path) -> None:
    """SOOP has FLAIR and T1w, each on its own grid; here one study has the one of them."""
    cases = find_layout("isles2022").find(root)
    flair = dataclasses.replace(cases[0], layout="soop", images={**cases[0].images, "FLAIR": cases[0].images["DWI"]})
    (told,) = [one for one in inspect([flair, *cases[1:]]).as_json()["warnings"] if one["kind"] == "own_grid"]
    assert told["message"] == f"FLAIR: on a grid of its own in 1 of {len(cases)} studies; register it before use"


def test_studies_that_are_whole_have_no_problem(root: Path) -> None:
    assert of(root) == ([], [])


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_is_named(root: Path, name: str) -> None:
    kind, word, harm = ERRORS[name]
    path = path_of(root, word)
    harm(path)
    (error,), warnings = of(root)
    assert (error["case"], error["file"], error["kind"]) == ("sub-strokecase0002", str(path), kind)
    assert error["message"] and "\n" not in error["message"] and not warnings


@pytest.mark.parametrize("name", WARNINGS)
def test_each_warning_is_named(root: Path, name: str) -> None:
    kind, word, harm = WARNINGS[name]
    path = path_of(root, word)
    harm(path)
    errors, (warning,) = of(root)
    assert (warning["case"], warning["file"], warning["kind"]) == ("sub-strokecase0002", str(path), kind)
    assert not errors


def test_an_unusual_orientation(root: Path) -> None:
    for word in ("dwi", "adc", "msk"):
        image = nib.load(path_of(root, word))
        nib.save(image.as_reoriented(np.array([[2, 1], [1, -1], [0, 1]])), path_of(root, word))
    errors, (warning,) = of(root)
    assert not errors and warning["kind"] == "orientation"


def test_a_patient_twice_is_found_by_the_voxels(root: Path) -> None:
    """Copied under another number, one image with another header: it would be trained and tested on."""
    for path in list(root.rglob("*case0001*.nii.gz")):
        copy = Path(str(path).replace("case0001", "case0007"))
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    change(path_of(root, "dwi", 7), values=lambda array: array)
    (error,), _ = of(root)
    assert (error["case"], error["kind"]) == ("sub-strokecase0007", "patient_twice")
    assert "sub-strokecase0001" in error["message"]


def test_a_folder_without_anything_is_an_error(root: Path) -> None:
    (root / "sub-strokecase0004").mkdir()
    (error,), _ = of(root)
    assert (error["case"], error["kind"]) == ("sub-strokecase0004", "unreadable")


def test_the_door_tells_all_and_ends_with_1_where_there_is_an_error(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main([str(root)]) == 0
    assert "3 studies, 0 errors, 0 warnings" in capsys.readouterr().out
    truncate(path_of(root, "dwi"))
    assert check.main([str(root), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"cases", "errors", "warnings"} and set(report["errors"][0]) == {
        "case",
        "file",
        "kind",
        "message",
    }
    assert check.main([str(root), "--layout", "isles2022"]) == 1
    told = capsys.readouterr().out
    assert "ERROR    unreadable: sub-strokecase0002/" in told and "checking: 3/3" in told
    assert check.main([str(root / "sub-strokecase0001")]) == 0, "a study alone"
    with pytest.raises(UserError, match="no known data set was found"):
        check.main([str(root / "derivatives")])
