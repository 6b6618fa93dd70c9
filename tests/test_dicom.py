"""DICOM in: series told apart and sorted by place, with values and geometry that ITK finds too; and what is refused."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import TO_LPS, write_enhanced, write_series
from scipy.spatial.transform import Rotation
from small_studies import save, voxels

from jaxstroke import check
from jaxstroke.data import lookup
from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Study, read_study
from jaxstroke.errors import UserError
from jaxstroke.files import nifti
from jaxstroke.files.dicom import instances

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (12, -7, 18), degrees=True).as_matrix() @ np.diag((-1.2, -1.1, 5.0))
OBLIQUE[:3, 3] = (60.5, 48.25, -31.125)
SHAPE = (14, 12, 6)


def volume(seed: int, low: int = 0, high: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, SHAPE).astype(np.int16)


def shuffled(count: int, seed: int = 3) -> list[str]:
    names = [f"IM{index:04}" for index in range(count)]
    random.Random(seed).shuffle(names)
    return names


def the_case(root: Path) -> Case:
    (case,) = lookup.look_up(root)[1]
    return case


def as_stored(study: Study, word: str) -> np.ndarray:
    return study.grid.to_file(study.images[word])


@pytest.fixture
def two_series(tmp_path: Path) -> Path:
    """DWI and ADC in one folder, names and order of no meaning, oblique; ADC with slope and intercept."""
    names = shuffled(2 * SHAPE[2])
    write_series(
        tmp_path / "a1", volume(1), OBLIQUE, number=5, description="ep2d_diff_TRACEW", names=names[: SHAPE[2]],
        DiffusionBValue=1000.0, DiffusionDirectionality="ISOTROPIC",
    )  # fmt: skip
    write_series(
        tmp_path / "a1", volume(2, 200, 1500), OBLIQUE, number=6, description="ep2d_diff_ADC",
        names=names[SHAPE[2] :], ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], RescaleSlope=0.5,
        RescaleIntercept=100,
    )  # fmt: skip
    return tmp_path / "a1"


def test_two_series_of_a_folder_lie_where_they_should(two_series: Path) -> None:
    case = the_case(two_series)
    assert case.study == "a1" and sorted(case.images) == ["ADC", "DWI"] and "p1" not in case.patient
    study = read_study(case, ["DWI", "ADC"])
    np.testing.assert_array_equal(as_stored(study, "DWI"), volume(1))
    np.testing.assert_allclose(study.grid.affine, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(study.spacing_mm, (5, 1.1, 1.2), atol=1e-6)
    np.testing.assert_array_equal(as_stored(study, "ADC"), volume(2, 200, 1500) * 0.5 + 100)


def test_itk_finds_the_same_geometry_and_values(two_series: Path) -> None:
    """An independent reader, given the files by an independent sorting."""
    reader = sitk.ImageSeriesReader()
    for series in reader.GetGDCMSeriesIDs(str(two_series)):
        files = reader.GetGDCMSeriesFileNames(str(two_series), series)
        image = sitk.ReadImage(files)
        header = nifti.read_header(Path(files[0]))
        np.testing.assert_allclose(sitk.GetArrayFromImage(image).transpose(2, 1, 0), voxels(Path(files[0])), atol=1e-3)
        directions = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
        np.testing.assert_allclose(TO_LPS @ header.affine[:3, :3], directions, atol=1e-4)
        np.testing.assert_allclose(TO_LPS @ header.affine[:3, 3], image.GetOrigin(), atol=1e-4)


def test_of_several_b_values_the_trace_at_1000_is_dwi(tmp_path: Path) -> None:
    same = {"number": 4, "series": "1.2.3.4"}
    for b, direction, word in ((0.0, "NONE", "diff"), (1000.0, "ISOTROPIC", "diff"), (2000.0, "ISOTROPIC", "diff")):
        write_series(
            tmp_path / "s", volume(int(b)), OBLIQUE, description=word, names=[f"{b}_{i}" for i in range(SHAPE[2])],
            DiffusionBValue=b, DiffusionDirectionality=direction, **same,
        )  # fmt: skip
    for axis in range(3):
        write_series(
            tmp_path / "s", volume(50 + axis), OBLIQUE, description="diff",
            names=[f"direction{axis}_{i}" for i in range(SHAPE[2])], DiffusionBValue=1000.0,
            DiffusionDirectionality="DIRECTIONAL", DiffusionGradientOrientation=list(np.eye(3)[axis]), **same,
        )  # fmt: skip
    case = the_case(tmp_path)
    assert list(case.images) == ["DWI"]
    np.testing.assert_array_equal(as_stored(read_study(case, ["DWI"]), "DWI"), volume(1000))


@pytest.mark.parametrize(
    "private",
    [
        {0x0019100C: ("IS", "1000"), 0x0019100D: ("CS", "ISOTROPIC")},  # Siemens
        {0x20011003: ("FL", 1000.0), 0x20011004: ("CS", "I")},  # Philips
        {0x00431039: ("IS", ["1000001000", "8", "0", "0"])},  # GE
        {0x0019100C: ("UN", b"1000"), 0x0019100D: ("UN", b"ISOTROPIC ")},  # of a maker that the file does not name
        {0x00180024: ("SH", "*ep_b1000t")},
    ],
    ids=["siemens", "philips", "ge", "bytes", "sequence name"],
)
def test_b_values_of_the_makers_own_fields(tmp_path: Path, private: dict) -> None:
    paths = write_series(tmp_path, volume(0), OBLIQUE, number=2, description="ep2d_diff")
    for path in paths:
        data = pydicom.dcmread(path)
        for tag, (kind, value) in private.items():
            data.add_new(tag, kind, value)
        data.save_as(path)
    assert list(the_case(tmp_path).images) == ["DWI"]


@pytest.mark.parametrize("b_values", [(1000.0,), (0.0, 1000.0)])
def test_an_enhanced_file_holds_its_volumes(tmp_path: Path, b_values: tuple[float, ...]) -> None:
    volumes = [(b, volume(int(b))) for b in b_values]
    write_enhanced(tmp_path / "a" / "IM1", volumes, OBLIQUE, description="DWI", scale=(2.0, -3.0))
    case = the_case(tmp_path)
    study = read_study(case, ["DWI"])
    np.testing.assert_array_equal(as_stored(study, "DWI"), volume(1000) * 2.0 - 3)
    np.testing.assert_allclose(study.grid.affine, OBLIQUE, atol=1e-5)
    (tmp_path / "list.csv").write_text(f"study,DWI\nx,{case.images['DWI'].relative_to(tmp_path)}\n")
    again = read_study(the_case(tmp_path / "list.csv"), ["DWI"])
    np.testing.assert_array_equal(again.images["DWI"], study.images["DWI"])


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000", "JPEGLS"])
def test_packed_pixels_are_unpacked_and_scaled_once(tmp_path: Path, compressor: str) -> None:
    """ITK packs; what its files claim of slope and intercept is set after."""
    path = tmp_path / "s" / "a.dcm"
    (plain,) = write_series(path.parent, volume(7)[:, :, :1], OBLIQUE, number=1, description="adc", names=["a.dcm"])
    data = pydicom.dcmread(plain)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    writer.Execute(sitk.GetImageFromArray(volume(7)[:, :, :1].transpose(2, 1, 0)))
    packed = pydicom.dcmread(path)
    assert packed.file_meta.TransferSyntaxUID.is_compressed
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Modality", "SeriesDescription"):
        packed[name] = data[name]
    packed.RescaleSlope, packed.RescaleIntercept = 3, 7
    packed.save_as(path)
    np.testing.assert_array_equal(voxels(path), volume(7)[:, :, :1] * 3.0 + 7)


def test_bits_above_those_stored_are_not_values(tmp_path: Path) -> None:
    stored = volume(1) % 2048 - 1024
    rubbish = (stored & 0x0FFF) | 0x5000
    (path, *_) = write_series(tmp_path, rubbish.astype(np.int16), OBLIQUE, number=1, description="b1000", BitsStored=12)
    np.testing.assert_array_equal(voxels(path), stored)


def test_a_tilted_gantry_is_a_sheared_affine(tmp_path: Path) -> None:
    tilted = np.diag([-1.0, -1.0, 5.0, 1.0])
    tilted[1, 2] = 1.5
    paths = write_series(tmp_path, volume(1), tilted, number=1, description="head", Modality="CT", RescaleIntercept=-9)
    for index, path in enumerate(paths):  # the writer takes the slices' direction from the affine's third column
        data = pydicom.dcmread(path)
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [0, -1.5 * index, 5 * index]
        data.save_as(path)
    study = read_study(the_case(tmp_path), ["CT"])
    np.testing.assert_allclose(study.grid.affine, tilted, atol=1e-6)
    nifti.write_volume(tmp_path / "mask.nii.gz", as_stored(study, "CT"), like=study.grid.header)
    assert nifti.read_header(tmp_path / "mask.nii.gz").disagreement() is None


# --- what could not be told ------------------------------------------------------------------------------------------


def test_what_two_series_may_be_is_asked_for_in_one_line(tmp_path: Path) -> None:
    for number, word in ((3, "t2_flair_tra"), (4, "t2_flair_sag")):
        write_series(tmp_path / "s", volume(number), OBLIQUE, number=number, description=word)
    write_series(tmp_path / "s", volume(8), OBLIQUE, number=8, description="b1000")
    case = the_case(tmp_path)
    assert list(case.images) == ["DWI"], "what is told is used all the same"
    with pytest.raises(UserError) as refused:
        read_study(case, ["DWI", "FLAIR"])
    told = str(refused.value)
    assert "\n" not in told and "2 DICOM series may be FLAIR, '3 t2_flair_tra', '4 t2_flair_sag'" in told
    typed = told[told.index("write ") + 6 : told.index(" into ")]
    assert told.endswith(f"into {tmp_path / 's' / 'layout.json'}")
    (tmp_path / "s" / "layout.json").write_text(typed)
    again = the_case(tmp_path / "s")
    np.testing.assert_array_equal(as_stored(read_study(again, ["FLAIR"]), "FLAIR"), volume(3))


@pytest.mark.parametrize("pattern", ["9", "odd*", "9 odd_*"])
def test_series_of_no_known_name_are_mapped_by_number_or_pattern(tmp_path: Path, pattern: str) -> None:
    write_series(tmp_path / "d" / "s1", volume(9), OBLIQUE, number=9, description="odd_sequence")
    with pytest.raises(UserError, match="could not be told what its DICOM series are; .*'9 odd_sequence'.*layout.json"):
        lookup.look_up(tmp_path / "d")
    (tmp_path / "names.json").write_text(json.dumps({"root": "d", "series": {"DWI": pattern}}))
    case = the_case(tmp_path / "names.json")
    assert case.study == "s1" and list(case.images) == ["DWI"]


def test_studies_of_a_folder_are_told_apart(tmp_path: Path) -> None:
    for patient, study in (("x", "1.2.1"), ("y", "1.2.2"), ("y", "1.2.3")):
        write_series(
            tmp_path / f"case{study[-1]}" / "dwi", volume(1), OBLIQUE, number=1, description="b1000",
            StudyInstanceUID=study, PatientID=patient,
        )  # fmt: skip
    cases = find_layout("folder").find(tmp_path)
    assert [case.study for case in cases] == ["case1_dwi", "case2_dwi", "case3_dwi"]
    assert cases[0].patient != cases[1].patient == cases[2].patient


# --- what is refused -------------------------------------------------------------------------------------------------


def change(path: Path, **fields: object) -> None:
    data = pydicom.dcmread(path)
    for word, value in fields.items():
        setattr(data, word, value)
    data.save_as(path)


def test_faults_of_a_series_are_named(two_series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dwi = sorted(
        (path for path in two_series.iterdir() if "TRACE" in pydicom.dcmread(path).SeriesDescription),
        key=lambda path: pydicom.dcmread(path).InstanceNumber,
    )
    whole = dwi[2].read_bytes()
    dwi[2].unlink()
    with pytest.raises(UserError, match="series 5 ep2d_diff_TRACEW b1000.*: its slices lie 5 mm apart, but 10 mm betw"):
        read_study(the_case(two_series), ["DWI"])
    dwi[2].write_bytes(whole[:-100])
    with pytest.raises(UserError, match=f"{dwi[2].name} is cut short"):
        read_study(the_case(two_series), ["DWI"])
    dwi[2].write_bytes(whole)
    (two_series / "again").write_bytes(whole)
    with pytest.raises(UserError, match="6 places have 7 slices, which nothing tells apart"):
        read_study(the_case(two_series), ["DWI"])
    capsys.readouterr()
    assert check.main([str(two_series)]) == 1
    assert "6 places have 7 slices" in capsys.readouterr().out


def test_a_mosaic_is_not_taken_for_a_slice(tmp_path: Path) -> None:
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    write_series(tmp_path, volume(1)[:, :, :1], OBLIQUE, number=1, description="b1000", ImageType=kind)
    with pytest.raises(UserError, match="series 1 b1000: each of its pictures is a mosaic"):
        read_study(the_case(tmp_path), ["DWI"])


def test_a_header_that_claims_too_much_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (path, *_) = write_series(tmp_path, volume(1), OBLIQUE, number=1, description="b1000")
    change(path, Rows=60000, Columns=60000)
    with pytest.raises(UserError, match="its header claims 60000 x 60000 x 1 voxels"):
        nifti.read_header(path)
    change(path, Rows=12, Columns=14, PixelSpacing=[0, 1])
    with pytest.raises(UserError, match="its header puts its pixels nowhere"):
        nifti.read_header(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=str(path)):
        read_study(the_case(tmp_path), ["DWI"])


def test_without_the_extra_one_line_says_what_to_install(two_series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        instances.importlib.util, "find_spec", lambda name, *rest: None if name == "pydicom" else found(name, *rest)
    )
    for layout in ("isles2022", "folder"):
        with pytest.raises(UserError, match=r"pip install 'jaxstroke\[prep\]'"):
            lookup.studies_at(two_series, find_layout(layout))


def test_files_changed_at_random_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """Bytes of the header, one in fifty runs of it cut off; any exception but `UserError` fails."""
    (path, *_) = write_series(tmp_path / "s", volume(1)[:, :, :1], OBLIQUE, number=1, description="b1000")
    whole = path.read_bytes()
    draw = random.Random(5)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 2, 8))):
            content[draw.randrange(132, len(content) - 2 * volume(1)[:, :, 0].size)] = draw.randrange(256)
        path.write_bytes(content[: draw.randrange(140, len(content))] if draw.random() < 0.1 else content)
        try:
            case = the_case(tmp_path)
            read_study(case, ["DWI"])
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 10 < refused < 300


def test_check_tells_the_series(two_series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(two_series, volume(9), OBLIQUE, number=9, description="t2_swi")
    save(two_series.parent / "b1" / "dwi.nii.gz", np.ones((4, 4, 4), np.float32))
    assert check.main([str(two_series), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (warning,) = report["warnings"]
    assert warning["kind"] == "series" and "9 t2_swi" in warning["message"] and not report["errors"]
