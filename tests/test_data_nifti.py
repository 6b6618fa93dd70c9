"""NIfTI files: what is read is what is there, and no file can do harm."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_studies import save, voxels

from jaxstroke.errors import UserError
from jaxstroke.files import nifti

OBLIQUE = np.array([[-1.9, 0.3, 0.1, 90], [0.3, 1.9, -0.4, -80], [0.1, 0.4, 2.9, -30], [0, 0, 0, 1.0]])


def header_bytes(shape: tuple[int, ...], code: int = 16, bits: int = 32) -> bytes:
    """A valid little-endian NIfTI-1 header of any claimed shape, and the four bytes after it."""
    block = bytearray(352)
    struct.pack_into("<i", block, 0, 348)
    struct.pack_into("<8h", block, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", block, 70, code, bits)
    struct.pack_into("<8f", block, 76, 1, *[1.0] * 7)
    struct.pack_into("<f", block, 108, 352)
    block[344:348] = b"n+1\0"
    return bytes(block)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, bool])
def test_round_trip_through_our_writer_and_nibabels_reader(tmp_path: Path, ending: str, dtype: type) -> None:
    array = (np.random.default_rng(0).random((5, 4, 3)) * 200).astype(dtype)
    path = tmp_path / f"a{ending}"
    nifti.write_volume(path, array, affine=OBLIQUE)
    oracle = nib.load(path)
    np.testing.assert_array_equal(oracle.get_fdata(), array)
    np.testing.assert_allclose(oracle.affine, OBLIQUE, atol=1e-5)
    np.testing.assert_array_equal(voxels(path), array.astype(np.float32))


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 6), (3, 4, 5, 1)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_values_are_scaled_as_nibabel_scales_them(tmp_path: Path, shape: tuple[int, ...], order: str) -> None:
    stored = np.random.default_rng(1).integers(-500, 500, shape).astype(f"{order}i2")
    block = bytearray(header_bytes(shape, 4, 16))
    struct.pack_into("<2f", block, 112, 0.25, -3.0)
    if order == ">":
        block = bytearray(nib.Nifti1Header(bytes(block[:348])).as_byteswapped(">").binaryblock + bytes(4))
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(block) + stored.tobytes(order="F"))
    found = voxels(path)
    np.testing.assert_allclose(found, np.squeeze(nib.load(path).get_fdata()), rtol=1e-6)
    assert found.ravel(order="F")[0] == 0.25 * float(stored.ravel(order="F")[0]) - 3


def test_same_voxels_same_bytes(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write_volume(tmp_path / name, array, affine=OBLIQUE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"], "no temporary file is left"


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (2, 1), (0, 0), (3, 4)])
def test_a_prediction_keeps_the_place_of_its_image(tmp_path: Path, codes: tuple[int, int]) -> None:
    """sform, qform, both codes and voxel sizes stay as they were, even a meaningless sform."""
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    image.header.set_qform(OBLIQUE, code=codes[0])
    image.header.set_sform(np.eye(4), code=codes[1])
    nib.save(image, tmp_path / "image.nii")
    like = nifti.read_header(tmp_path / "image.nii")
    nifti.write_volume(tmp_path / "mask.nii.gz", np.ones((4, 5, 6), np.uint8), like=like)
    before, after = nib.load(tmp_path / "image.nii").header, nib.load(tmp_path / "mask.nii.gz").header
    fields = ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim")
    for field in fields:
        np.testing.assert_array_equal(before[field], after[field], err_msg=field)
    np.testing.assert_array_equal(nib.load(tmp_path / "image.nii").affine, nib.load(tmp_path / "mask.nii.gz").affine)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii"
    nifti.write_volume(path, np.zeros((2, 2, 2), np.uint8), affine=np.eye(4))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti, "_write", full)
    with pytest.raises(UserError, match=r"a\.nii: it cannot be written: No space left"):
        nifti.write_volume(path, np.ones((2, 2, 2), np.uint8), affine=np.eye(4))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- files that lie, or are broken ---


def _now_mib() -> float:
    """What this process has; its peak begins here anew, or the peak of an earlier test would hide that of this one."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        pytest.skip("this system does not tell how much memory was taken")
    clear.write_text("5")
    return _peak_mib()


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path: Path, packed: bool) -> None:
    block = header_bytes((2000, 2000, 2000))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(block) if packed else block)
    before = _now_mib()
    with pytest.raises(UserError, match=r"claims \(2000, 2000, 2000\) voxels"):
        voxels(path)
    assert _peak_mib() - before < 50


def test_a_short_file_with_a_large_claim_takes_no_memory(tmp_path: Path) -> None:
    """512^3 voxels are allowed, but they must be there."""
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header_bytes((512, 512, 512), 64, 64) + bytes(1000)))
    before = _now_mib()
    with pytest.raises(UserError, match="archive holds less than the 1,073,742,176 bytes of its 134,217,728 voxels"):
        voxels(path)
    assert _peak_mib() - before < 100


def test_a_compressed_bomb_is_refused(tmp_path: Path) -> None:
    """A small volume with 200 MB of zeros behind it unpacks no further than a little past its voxels."""
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header_bytes((4, 4, 4)) + bytes(200_000_000), compresslevel=1))
    before = _now_mib()
    with pytest.raises(UserError, match="more than the 64 voxels"):
        voxels(path)
    assert _peak_mib() - before < 50


def test_the_bound_can_be_set(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.float32))
    assert voxels(path, max_voxels=64).shape == (4, 4, 4)
    with pytest.raises(UserError, match="more than the 63 that are read"):
        voxels(path, max_voxels=63)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a NIfTI file"),
        (b"hello, this is text", "not a NIfTI file"),
        (header_bytes((4, 4, 4))[:200], "not a NIfTI file"),
        (header_bytes((4, 4, 4)) + bytes(100), "cut short after 25 of 64 voxels"),
        (gzip.compress(header_bytes((4, 4, 4)) + bytes(256), mtime=0)[:-12], "damaged or cut short"),
        (gzip.compress(header_bytes((4, 4, 4)) + bytes(256), mtime=0)[:-8] + bytes(8), "damaged or cut short"),
        (header_bytes((4, 4)) + bytes(64), "its shape is"),
        (header_bytes((4, 4, 0)), "its shape is"),
        (header_bytes((4, 4, 2, 2, 3)) + bytes(1000), "its shape is"),
        (header_bytes((2, 2, 2), 32, 64) + bytes(64), "of type complex64"),
        (header_bytes((2, 2, 2), 999, 64) + bytes(64), "header is broken"),
        (header_bytes((2, 2, 2)).replace(b"n+1\0", b"ni1\0") + bytes(64), "not a single-file NIfTI"),
    ],
)
def test_broken_files_are_told_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        voxels(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        voxels(tmp_path / "none.nii")
    with pytest.raises(UserError, match="cannot be read"):
        voxels(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_counted(tmp_path: Path, bad: float) -> None:
    array = np.zeros((3, 3, 3))
    array[0, 1, 1:] = bad
    path = save(tmp_path / "a.nii", array)
    with pytest.raises(UserError, match="2 of its 27 voxels are not finite"):
        voxels(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_no_header_whatever_gives_more_than_a_plain_error(
    tmp_path: Path, changes: list[tuple[int, int]], packed: bool
) -> None:
    block = bytearray(header_bytes((3, 3, 3)) + bytes(3 * 3 * 3 * 4))
    for place, value in changes:
        block[place] = value
    path = tmp_path / "a.nii"
    path.write_bytes(gzip.compress(bytes(block)) if packed else bytes(block))
    try:
        found = voxels(path, max_voxels=10_000)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(found).all() and found.size <= 10_000
        nifti.read_header(path).disagreement()


# --- contradictions in a header ---


def test_a_header_that_agrees_with_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nifti.write_volume(path, np.zeros((64, 64, 20), np.uint8), affine=np.diag([2, 2, 5, 1.0]))
    assert nifti.read_header(path).disagreement() is None


def test_an_identity_sform_with_other_voxel_sizes_is_seen(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.uint8), pixdim=[1, 0.98, 0.98, 5, 1, 1, 1, 1])
    header = nifti.read_header(path)
    assert "1 x 1 x 1 mm" in (header.disagreement() or "")
    np.testing.assert_allclose(header.spacing_mm, (0.98, 0.98, 5), rtol=1e-6)


def test_sform_against_qform_is_seen(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((50, 50, 50), np.uint8), np.eye(4))
    turned = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    image.header.set_sform(np.eye(4), code=1)
    image.header.set_qform(turned, code=1)
    nib.save(image, tmp_path / "a.nii")
    assert "sform and qform put a corner" in (nifti.read_header(tmp_path / "a.nii").disagreement() or "")
