"""DICOM out: a segmentation that other readers lay over the source series, voxel for voxel the NIfTI mask."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import small_runs
from dicom_files import FRAME_OF_REFERENCE, TO_LPS, write_enhanced, write_series
from small_runs import above_half
from test_dicom import OBLIQUE, SHAPE, shuffled, the_case, volume

from jaxstroke import predict
from jaxstroke.data.study import Study
from jaxstroke.files.dicom import segmentation
from jaxstroke.inference import many, naming, written
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System


def bright(study: Study) -> Answer:
    return Answer((study.images["DWI"] > 3000)[..., None].astype(np.float32), {})


def predicted(root: Path, out: Path) -> dict:
    system = System("bright", "Bright", ("DWI",), bright, above_half)

    def write(study: Study, answer: Answer) -> list[dict]:
        return written.write(out, study, answer, system, ("lesion",))

    (line,) = many.predict([the_case(root)], system, write, lambda *_, **__: None).done
    return line


def check_same(line: dict, wanted: np.ndarray) -> None:
    """The NIfTI mask is what is wanted, and highdicom makes the same volume of the segmentation, in the same place."""
    mask = nib.nifti1.load(line["mask"])
    np.testing.assert_array_equal(np.asarray(mask.dataobj), wanted)
    np.testing.assert_allclose(mask.affine, OBLIQUE, atol=1e-5)
    read = hd.seg.segread(line["segmentation"]).get_volume(combine_segments=True)
    # highdicom's order is its own: each of its voxels is looked up by its place in the NIfTI mask.
    there = np.argwhere(np.asarray(read.array) > 0)
    places = there @ read.affine[:3, :3].T + read.affine[:3, 3]
    voxels = (places @ TO_LPS - mask.affine[:3, 3]) @ np.linalg.inv(mask.affine[:3, :3]).T
    assert np.abs(voxels - np.rint(voxels)).max() < 1e-3
    found = np.zeros(SHAPE, bool)
    found[tuple(np.rint(voxels).astype(int).T)] = True
    np.testing.assert_array_equal(found, wanted)


def test_it_is_the_nifti_mask_and_refers_to_the_image_of_each_slice(tmp_path: Path) -> None:
    image = volume(1)
    image[:, :, 2] = 0  # a slice without lesion
    paths = write_series(
        tmp_path / "s", image, OBLIQUE, number=5, description="b1000", names=shuffled(SHAPE[2]), BodyPartExamined="HEAD"
    )
    line = predicted(tmp_path / "s", tmp_path / "out")
    check_same(line, image > 3000)
    written_file = pydicom.dcmread(line["segmentation"])
    source = {pydicom.dcmread(path).SOPInstanceUID: image[:, :, index].T for index, path in enumerate(paths)}
    assert written_file.Modality == "SEG" and written_file.FrameOfReferenceUID == FRAME_OF_REFERENCE
    assert written_file.StudyInstanceUID == pydicom.dcmread(paths[0]).StudyInstanceUID
    assert written_file.PatientID == "p1" and "not a medical device" in written_file.ContentDescription
    assert "Research use only, not a medical device" in written_file.SeriesDescription
    (listed,) = written_file.ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in listed.ReferencedInstanceSequence} == set(source)
    frames = written_file.pixel_array
    assert len(frames) == SHAPE[2] - 1
    for frame, groups in zip(frames, written_file.PerFrameFunctionalGroupsSequence, strict=True):
        (named,) = groups.DerivationImageSequence[0].SourceImageSequence
        np.testing.assert_array_equal(frame > 0, source[named.ReferencedSOPInstanceUID] > 3000)


def test_of_an_enhanced_file_and_without_lesion(tmp_path: Path) -> None:
    volumes = [(0.0, volume(0)), (1000.0, volume(1))]
    write_enhanced(tmp_path / "e" / "IM1", volumes, OBLIQUE, description="x")
    check_same(predicted(tmp_path / "e", tmp_path / "out"), volume(1) > 3000)
    write_series(tmp_path / "n", volume(1) // 2, OBLIQUE, number=5, description="b1000")
    line = predicted(tmp_path / "n", tmp_path / "out")
    assert not pydicom.dcmread(line["segmentation"]).pixel_array.any()


def test_without_a_frame_of_reference_there_is_the_nifti_mask_alone(tmp_path: Path) -> None:
    write_series(tmp_path / "n", volume(1), OBLIQUE, number=5, description="b1000", FrameOfReferenceUID="")
    line = predicted(tmp_path / "n", tmp_path / "out")
    assert Path(line["mask"]).is_file() and "segmentation" not in line


def test_what_was_made_anonymous_is_enough(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "n", volume(1), OBLIQUE, number=5, description="b1000")
    for path in paths:
        data = pydicom.dcmread(path)
        for name in segmentation._MAY_BE_EMPTY:
            delattr(data, name)
        data.save_as(path)
    line = predicted(tmp_path / "n", tmp_path / "out")
    check_same(line, volume(1) > 3000)


@pytest.mark.parametrize(
    "word, name", [("", "s_mask.dcm"), ("isles2022", "s.dcm"), ("bids", "sub-s/dwi/sub-s_desc-jaxstroke_mask.dcm")]
)
def test_it_is_named_as_the_mask_is(tmp_path: Path, word: str, name: str) -> None:
    write_series(tmp_path / "s", volume(1), OBLIQUE, number=5, description="b1000")
    assert naming.naming(word)(the_case(tmp_path / "s"), "segmentation", "") == Path(name)


def test_predict_takes_the_folder_as_it_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_runs.drawn_run(tmp_path / "run", 3, data=tmp_path, split={"train": [], "validation": [], "test": []})
    folder = tmp_path / "from the archive"
    write_series(folder / "s5", volume(1), OBLIQUE, number=5, description="diff", DiffusionBValue=1000.0)
    write_series(folder / "s6", volume(2, 400, 1500), OBLIQUE, number=6, description="diff_ADC")
    assert predict.main([str(run.path), str(folder), "-o", str(tmp_path / "out")]) == 0
    (line,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    mask = np.asarray(nib.nifti1.load(line["mask"]).dataobj)
    assert line["study"] == folder.name and "next:" in capsys.readouterr().out
    assert hd.seg.segread(line["segmentation"]).pixel_array.sum() == mask.sum()
