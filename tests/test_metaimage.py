"""MetaImage files against ITK, which both writes and reads them otherwise, and against what no writer would write."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from small_studies import save

from jaxstroke.data.case import Case
from jaxstroke.data.study import read_study
from jaxstroke.errors import UserError
from jaxstroke.files import nifti

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (14, -9, 21), degrees=True).as_matrix() @ np.diag((1.3, 1.1, 6.0))
OBLIQUE[:3, 3] = (-31.5, 20.25, 7.125)
VALUES = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5) - 7


def read(path: Path) -> tuple[nifti.Header, np.ndarray]:
    header = nifti.read_header(path)
    array = np.empty(header.shape, np.float32)
    nifti.fill(array, header)
    return header, array


def text(**changes: str | None) -> bytes:
    lines = {"ObjectType": "Image", "NDims": "3", "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
             "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3", "ElementSpacing": "1 2 4", "DimSize": "3 4 5",
             "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL"} | changes  # fmt: skip
    return "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None).encode()


def test_hand_values(tmp_path: Path) -> None:
    """Offset and axes point left and back; NIfTI's right and front."""
    (tmp_path / "a.mha").write_bytes(text() + VALUES.tobytes(order="F"))
    header, array = read(tmp_path / "a.mha")
    np.testing.assert_array_equal(array, VALUES)
    np.testing.assert_array_equal(header.affine, [[-1, 0, 0, -1], [0, -2, 0, -2], [0, 0, 4, 3], [0, 0, 0, 1]])
    assert header.spacing_mm == (1, 2, 4) and header.disagreement() is None
    big = text(BinaryDataByteOrderMSB="True", CompressedData="True")
    (tmp_path / "a.mha").write_bytes(big + zlib.compress(VALUES.astype(">i2").tobytes(order="F")))
    np.testing.assert_array_equal(read(tmp_path / "a.mha")[1], VALUES)


@pytest.mark.parametrize("packed", [False, True])
def test_what_itk_writes_is_read_and_what_is_written_itk_reads(tmp_path: Path, packed: bool) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra: prep)")
    save(tmp_path / "a.nii", VALUES, OBLIQUE)
    image = sitk.ReadImage(str(tmp_path / "a.nii"))
    sitk.WriteImage(image, str(tmp_path / "a.mha"), packed)
    header, array = read(tmp_path / "a.mha")
    np.testing.assert_array_equal(array, VALUES)
    np.testing.assert_allclose(header.affine, OBLIQUE, atol=1e-5)
    nifti.write_volume(tmp_path / "b.mha", VALUES > 9, like=header)
    back = sitk.ReadImage(str(tmp_path / "b.mha"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), (VALUES > 9).T)
    assert back.GetPixelIDTypeAsString() == "8-bit unsigned integer" and back.GetSize() == image.GetSize()
    for told in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(back, told)(), getattr(image, told)(), atol=1e-6)


def test_a_study_of_metaimages_is_that_of_the_same_niftis(tmp_path: Path) -> None:
    affine = np.diag((-2.0, 2.0, 5.0, 1.0))
    save(tmp_path / "a.nii", VALUES, affine)
    nifti.write_volume(tmp_path / "a.mha", VALUES, affine=affine)
    one, other = (
        read_study(Case("s", "p", {"DWI": tmp_path / name}, {}, "folder"), ["DWI"]) for name in ("a.nii", "a.mha")
    )
    np.testing.assert_array_equal(one.images["DWI"], other.images["DWI"])
    np.testing.assert_array_equal(other.grid.to_file(other.images["DWI"]), VALUES)
    nifti.write_volume(tmp_path / "mask.nii.gz", VALUES > 3, like=other.grid.header)
    np.testing.assert_allclose(nifti.read_header(tmp_path / "mask.nii.gz").affine, affine)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (text(DimSize="2000 2000 2000"), r"claims \(2000, 2000, 2000\) voxels"),
        (text(DimSize="500 500 500", CompressedData="True") + bytes(99), "archive holds less than the 250,"),
        (text() + bytes(99), "cut short after 49 of 60 voxels"),
        (text(CompressedData="True") + zlib.compress(bytes(60)), "cut short after 30 of 60 voxels"),
        (text(CompressedData="True") + zlib.compress(bytes(300_000)), "more than the 60 voxels"),
        (text(CompressedData="True") + b"nothing packed", "damaged or cut short"),
        (text(NDims="100000"), "header is broken"),
        (text(DimSize="3 4"), "no MetaImage of one volume"),
        (text(ElementType="MET_FANCY"), "header is broken"),
        (text(ElementDataFile="a.raw"), "no MetaImage of one volume"),
        (text(ElementSpacing="1 nan 1"), "affine is not invertible"),
        (text(ElementSpacing="0 1 1"), "affine is not invertible"),
        (text(ElementDataFile=None), "broken or cut short"),
        (b"ObjectType" + b"x" * 100_000, "broken or cut short"),
    ],
)
def test_broken_files_are_told_in_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.mha").write_bytes(content)
    with pytest.raises(UserError, match=told) as caught:
        read(tmp_path / "a.mha")
    assert str(tmp_path / "a.mha") in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=5))
def test_no_text_whatever_gives_more_than_a_plain_error(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    block = bytearray(text() + VALUES.tobytes())
    for place, value in changes:
        block[place] = value
    (tmp_path / "a.mha").write_bytes(block)
    try:
        header = nifti.read_header(tmp_path / "a.mha", max_voxels=10_000)
        nifti.fill(np.empty(header.shape, np.float32), header)
    except UserError as error:
        assert "\n" not in str(error)
