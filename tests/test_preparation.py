"""Registration, N4 and skull stripping, on phantoms of which the truth is known, and how they hang in the program."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_studies import head, isles2022_root, lesion, save

from jaxstroke import check, user_cache
from jaxstroke.data import lookup
from jaxstroke.data.cache.building import build_cache
from jaxstroke.data.case import Case
from jaxstroke.data.preparation import bias_field, brain, itk, registration, steps
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.study import Study, read_alone, read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data, Preparation, catalogue
from jaxstroke.experiment.overrides import override
from jaxstroke.phantoms import isles2018, isles2022

MOVE = np.eye(4)
MOVE[:3, :3] = Rotation.from_euler("xyz", (4, -3, 5), degrees=True).as_matrix()
MOVE[:3, 3] = (5, -4, 3)
REGISTER = Preparation(register={"FLAIR": "DWI"})


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    isles2022.write_study(root, 3, 0, with_ctp=False)
    return root


@pytest.fixture(scope="module")
def case(phantom: Path) -> Case:
    (one,) = lookup.look_up(phantom)[1]
    return one


@pytest.fixture(scope="module")
def study(case: Case) -> Study:
    return read_study(case, ["DWI", "ADC"])


def off_mm(study: Study, found: np.ndarray, truth: np.ndarray) -> float:
    """How far a transform puts a voxel of the brain from where it belongs, at most."""
    places = np.argwhere(study.images["DWI"] > 0)[::50] @ study.grid.voxels_to_mm[:3, :3].T
    places += study.grid.voxels_to_mm[:3, 3]
    both = [places @ one[:3, :3].T + one[:3, 3] for one in (found, truth)]
    return float(np.linalg.norm(both[0] - both[1], axis=1).max())


# --- registration ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_image_of_another_contrast_is_brought_back_to_its_place(study: Study) -> None:
    place = study.grid.voxels_to_mm
    found = registration.register(study.images["DWI"], place, study.images["ADC"], MOVE @ place)
    assert off_mm(study, np.array(found.matrix), MOVE) < 0.5 * min(study.spacing_mm)
    assert found.after > 1.5 * found.before > 0 and 6.5 < found.degrees < 7.5
    adc, told = steps.onto("ADC", study.images["ADC"], MOVE @ place, "DWI", study.images["DWI"], place)
    inside = study.images["DWI"] > 0
    apart = np.abs(adc - study.images["ADC"])[inside].mean()
    assert apart < 0.1 * study.images["ADC"][inside].mean() and told.startswith("ADC registered to DWI: moved by 7.")
    kept = user_cache.folder() / "transforms"
    (file,) = (one for one in kept.iterdir() if json.loads(one.read_text())["shift_mm"] == found.shift_mm)
    begun = file.stat().st_mtime_ns
    assert registration.register(study.images["DWI"], place, study.images["ADC"], MOVE @ place) == found
    assert file.stat().st_mtime_ns == begun, "it is not searched for again"


@pytest.mark.slow
def test_flair_is_brought_back_on_its_own_grid(study: Study, case: Case) -> None:
    """The phantom's FLAIR is moved by a few mm that nobody knows; moved once more, both are undone."""
    flair, place = read_alone(case, "FLAIR")
    dwi, grid = study.images["DWI"], study.grid.voxels_to_mm
    alone = registration.register(dwi, grid, flair, place)
    moved = registration.register(dwi, grid, flair, MOVE @ place)
    assert alone.after > alone.before
    assert registration._search(dwi, grid, flair, place) == alone, "the same again, digit for digit"
    assert off_mm(study, np.array(moved.matrix), MOVE @ np.array(alone.matrix)) < 0.5 * min(study.spacing_mm)


@pytest.mark.slow
def test_fields_of_view_that_lie_far_apart_begin_at_their_centres(study: Study) -> None:
    place, far = study.grid.voxels_to_mm, np.eye(4)
    far[:3, 3] = (400, -350, 200)
    found = registration.register(study.images["DWI"], place, study.images["ADC"], far @ place)
    assert found.before == 0 and off_mm(study, np.array(found.matrix), far) < 0.5 * min(study.spacing_mm)


def test_what_cannot_be_registered_is_one_line(case: Case) -> None:
    flat = np.ones((2, 16, 16), np.float32)
    with pytest.raises(UserError, match="too flat to be registered"):
        registration.register(flat, np.eye(4), flat, np.eye(4))
    without = dataclasses.replace(case, images={"DWI": case.images["DWI"]})
    with pytest.raises(UserError, match="it has no image FLAIR; its images are: DWI"):
        read_with(REGISTER, without, ["DWI", "FLAIR"])
    found = read_with(REGISTER, without, ["DWI", "FLAIR"], allow_missing=True)
    assert found.missing == ("FLAIR",) and not found.prepared and "no image FLAIR" in found.warnings[0]


# --- N4 --------------------------------------------------------------------------------------------------------------


def test_n4_flattens_a_known_field(study: Study) -> None:
    """Tissue of one brightness under a field of a factor of 2: what is left of the field is a tenth of it."""
    dwi = study.images["DWI"][::2, ::2, ::2]
    inside = dwi > 0
    tissue = np.where(inside, 100 + 5 * np.random.default_rng(0).standard_normal(dwi.shape), 0).astype(np.float32)
    depth, row, column = np.meshgrid(*(np.linspace(-1, 1, side) for side in dwi.shape), indexing="ij")
    field = np.exp(0.6 * row + 0.4 * column * depth - 0.3 * column**2)
    flat, told = bias_field.correct(
        (tissue * field).astype(np.float32), inside, study.grid.voxels_to_mm @ np.diag([2, 2, 2, 1])
    )
    before, after = (np.std(np.log(one[inside] / tissue[inside])) for one in (tissue * field, flat))
    assert before > 0.2 and after < 0.1 * before
    assert not flat[~inside].any() and told.startswith("a field of 0.")


# --- the brain -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1])
def test_of_a_ct_the_brain_stays_and_the_skull_goes(index: int) -> None:
    scene = isles2018._scene(2018, index)
    ct = isles2018.make_study(2018, index, with_ctp=False)["CT"][0].astype(np.float32)
    truth = isles2018._on_canvas(scene.inside.astype(np.float32), scene.grid, 0.0)[0] > 0.5
    found = brain.brain_of(ct, scene.grid.spacing_mm, hounsfield=True)
    assert found is not None and (found & truth).sum() > 0.995 * truth.sum()
    assert not found[ct > 300].any() and (found & ~truth).sum() < 0.15 * truth.sum()
    assert (ct[truth | (ct > 300)] > 300).sum() > 1000, "there was a skull"
    stripped = np.where(found, ct, -1024)
    assert brain.brain_of(stripped, scene.grid.spacing_mm, hounsfield=True) is None


def test_of_an_mr_image_the_brain_stays_and_the_scalp_goes(study: Study) -> None:
    """The phantom's brain in a dark skull, in a bright scalp, in noise."""
    rng = np.random.default_rng(0)
    dwi = study.images["DWI"][20:50]
    truth = np.stack([_filled(plane > 0) for plane in dwi])
    rim = _grown(truth, 6)
    image = np.where(truth, np.maximum(dwi, 0.5 * np.median(dwi[dwi > 0])), 0) + 20 * np.abs(rng.normal(size=dwi.shape))
    scalp = _grown(rim, 3) & ~rim
    image[scalp] += np.median(dwi[dwi > 0])
    found = brain.brain_of(image.astype(np.float32), study.spacing_mm, hounsfield=False)
    assert found is not None and 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    assert not (found & scalp).any()
    assert brain.brain_of(dwi, study.spacing_mm, hounsfield=False) is None, "the phantom has no skull"


def _filled(plane: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return np.asarray(ndimage.binary_fill_holes(plane))


def _grown(inside: np.ndarray, pixels: int) -> np.ndarray:
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(inside, np.ones((1, 3, 3)), iterations=pixels))


def test_where_there_is_no_brain_it_is_said() -> None:
    ct = np.full((4, 64, 64), -1000, np.float32)
    ct[:, 20:40, 20:40] = 700
    with pytest.raises(UserError, match="no brain was found below the skull"):
        brain.brain_of(ct, (5, 1, 1), hounsfield=True)


# --- in the program --------------------------------------------------------------------------------------------------


def with_flair(root: Path, count: int) -> list[Case]:
    """Small studies whose FLAIR lies beside its place on a coarser grid."""
    cases = isles2022_root(root, [lesion((8, 40, 36), {3: (15, 15)})] * count)
    for case in cases:
        stored = nib.nifti1.load(case.images["DWI"])
        values = np.asarray(stored.dataobj, np.float32)
        place = case.images["DWI"].parent.parent / "anat" / f"{case.study}_ses-0001_FLAIR.nii.gz"
        save(place, 500 - values[::2, ::2] * 2, stored.affine @ np.diag([2, 2, 1, 1]))
    return lookup.look_up(root)[1]


def data_of(**changes: object) -> Data:
    data = Data("isles2022", (("DWI",), ("FLAIR",)), size=32, spacing_mm=2.0)
    return dataclasses.replace(data, preparation=Preparation(**{"register": {"FLAIR": "DWI"}, **changes}))  # type: ignore[arg-type]


def test_it_is_cached_by_settings_goes_on_and_names_what_is_broken(tmp_path: Path) -> None:
    cases = with_flair(tmp_path / "data", 2)
    cut = cases[1].images["FLAIR"]
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-40])
    with pytest.raises(UserError, match=f"{cut}: it is damaged.*--keep-going leaves such studies out"):
        build_cache(cases, data_of(), tmp_path / "cache")
    some = build_cache(cases, data_of(), tmp_path / "cache", keep_going=True)
    assert [study.study for study in some.studies] == ["sub-strokecase0001"]
    cut.write_bytes(whole)
    seen: list[str] = []
    first = build_cache(cases, data_of(), tmp_path / "cache", lambda steps, name: seen.append(name))
    assert seen == [case.study for case in cases]
    assert build_cache(cases, data_of(), tmp_path / "cache") == first
    other = build_cache(cases, data_of(correct_bias=("DWI",)), tmp_path / "cache")
    assert other.fingerprint != first.fingerprint
    one, two = (cache.array(cases[0].study, "images")[..., 1] for cache in (first, other))
    np.testing.assert_array_equal(one, two)  # FLAIR was not corrected
    with pytest.raises(UserError, match="does not lie on the grid of DWI"):
        build_cache(cases, dataclasses.replace(data_of(), preparation=Preparation()), tmp_path / "cache")


@pytest.mark.slow
def test_side_by_side_gives_what_one_after_another_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = with_flair(tmp_path / "data", 3)
    made = []
    for cores, folder in ((1, "a"), (3, "b")):
        monkeypatch.setattr("jaxstroke.process.cores.usable", lambda cores=cores: cores)
        monkeypatch.setenv("JAXSTROKE_CACHE", str(tmp_path / folder))
        made.append(build_cache(cases, data_of(), tmp_path / folder / "prepared"))
    assert made[0].studies == made[1].studies, "bit for bit, as the checksums say"


def test_check_shows_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_flair(tmp_path / "data", 1)
    words = ["--exp", "unet_isles22", "--set", 'data.groups=[["DWI"],["FLAIR"]]']
    words += ["--set", "data.preparation.register.FLAIR=DWI", "--set", 'data.preparation.correct_bias=["DWI"]']
    assert check.main([str(tmp_path / "data"), *words]) == 0
    told = capsys.readouterr().out
    assert "done     FLAIR registered to DWI: moved by " in told and "mutual information" in told
    assert "done     N4 on DWI: a field of " in told
    capsys.readouterr()
    assert check.main([str(tmp_path / "data"), *words, "--json"]) == 0
    (study,) = json.loads(capsys.readouterr().out)["cases"]
    assert len(study["preparation"]) == 2


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"data.preparation.register": '{"FLAIR": "DWI"}'}, "the network does not see FLAIR"),
        ({"data.preparation.register": '{"ADC": "DWI", "DWI": "ADC"}'}, "ADC is brought elsewhere itself"),
        ({"data.preparation.correct_bias": '["T1w"]'}, "the network does not see T1w"),
        ({"data.preparation.strip_skull": "CT"}, "the network does not see CT"),
    ],
)
def test_settings_that_cannot_be_meant(changes: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        override(catalogue.load("unet_isles22"), changes)


def test_it_is_off_in_every_experiment_and_leaves_the_fingerprint_as_it_was() -> None:
    from jaxstroke.data.cache.fingerprint import recipe_of

    for name in catalogue.names():
        data = catalogue.load(name).data
        assert not data.preparation.any and "preparation" not in recipe_of(data), name


def test_without_the_extra_one_line_says_what_to_install(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itk.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'jaxstroke\[prep\]'"):
        itk.image_of(head((4, 8, 8)), np.eye(4))
