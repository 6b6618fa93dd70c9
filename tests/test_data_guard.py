"""What a file or a folder can do to a reader: no hang, one copy in memory, one plain line."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_studies import head, isles2022_root, lesion, save, voxels
from test_data_nifti import header_bytes

from jaxstroke.data.cache.building import build_cache
from jaxstroke.data.cache.fingerprint import identity
from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.source import Source
from jaxstroke.data.splits import Split
from jaxstroke.data.study import read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data
from jaxstroke.files import nifti, opened

SHAPE = (4, 10, 8)


def test_a_pipe_named_like_an_image_is_refused_at_once(tmp_path: Path) -> None:
    (case,) = isles2022_root(tmp_path, [lesion(SHAPE, {})])
    case.images["DWI"].unlink()
    os.mkfifo(case.images["DWI"])
    (found,) = find_layout("isles2022").find(tmp_path)
    for read in (lambda: read_study(found, ["DWI", "ADC"]), lambda: identity(found.images["DWI"])):
        with pytest.raises(UserError, match=r"_dwi\.nii\.gz: it cannot be read: this is a pipe, not a file"):
            read()


def test_a_folder_or_a_text_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this is a folder"):
        nifti.read_header(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"study\xff")
    with pytest.raises(UserError, match="not text in UTF-8"):
        opened.read_text(tmp_path / "a.csv")


@pytest.mark.parametrize("kind", ["loop", "empty"])
def test_a_study_that_cannot_be_entered_is_told_not_skipped(tmp_path: Path, kind: str) -> None:
    """A link to itself stands for every folder that cannot be listed: root may enter what has no permission."""
    isles2022_root(tmp_path, [lesion(SHAPE, {})] * 2)
    broken = tmp_path / "sub-strokecase0003"
    os.symlink(broken, broken) if kind == "loop" else broken.mkdir()
    cases = find_layout("isles2022").find(tmp_path)
    assert [case.study for case in cases] == [f"sub-strokecase000{number}" for number in (1, 2, 3)]
    what = "it cannot be read: Too many levels" if kind == "loop" else "there is nothing in it"
    with pytest.raises(UserError, match=f"sub-strokecase0003: {what}"):
        read_study(cases[2], ["DWI"])


def test_a_mask_of_four_dimensions_is_no_mask(tmp_path: Path) -> None:
    (case,) = isles2022_root(tmp_path, [lesion(SHAPE, {})])
    save(case.masks["lesion"], np.zeros((8, 10, 4, 2), np.uint16), np.diag([-2.0, 2, 2, 1]))
    with pytest.raises(UserError, match=r"lesion must be one volume \(X, Y, Z\)"):
        read_study(case, ["DWI"], ["lesion"])


def test_every_slope_of_one_over_n_gives_a_mask_back(tmp_path: Path) -> None:
    """Label n is stored with slope float32(1 / n), as some tools do; 65535 is ISLES 2024's."""
    path = tmp_path / "mask.nii"
    for label in (*range(1, 60), 255, 4096, 65535):
        block = bytearray(header_bytes((2, 2, 2), 512, 16))
        block[112:120] = np.array([1 / label, 0], "<f4").tobytes()
        path.write_bytes(bytes(block) + np.array([0, label] * 4, "<u2").tobytes())
        case = Case("s", "p", {"DWI": save(tmp_path / "dwi.nii", np.ones((2, 2, 2), np.float32))}, {"lesion": path}, "")
        case = Case(case.study, case.patient, case.images, case.masks, "isles2018")
        assert read_study(case, ["DWI"], ["lesion"]).masks["lesion"].sum() == 4, label


def test_what_can_hardly_be_meant_is_warned_of_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (case,) = isles2022_root(tmp_path, [lesion(SHAPE, {})])
    affine = np.diag([-2.0, 2, 2, 1])
    save(case.images["DWI"], np.zeros((8, 10, 4), np.float32), affine)
    huge = head(SHAPE).transpose(2, 1, 0)
    huge[4, 5, 2] = 1e38
    save(case.images["ADC"], huge, affine)
    study = read_study(case, ["DWI", "ADC"])
    assert study.warnings == (
        f"study sub-strokecase0001: DWI is 0 everywhere ({case.images['DWI']})",
        f"study sub-strokecase0001: ADC has values from 0 to 1e+38 ({case.images['ADC']})",
    )
    assert capsys.readouterr().err.count("warning: study sub-strokecase0001") == 2


# --- memory: in a process of its own, whose peak nothing else has raised ---

MEASURE = """
import sys
from pathlib import Path
import nibabel, numpy
from jaxstroke.errors import UserError
from jaxstroke.data.case import Case
from jaxstroke.data.study import read_study
def peak():  # ru_maxrss would begin with that of the process that started this one
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = peak()
try:
    read_study(Case("s", "p", {"DWI": Path(sys.argv[1])}, {}, "isles2022"), ["DWI"])
    said = "read"
except UserError as error:
    said = str(error)
print((peak() - before) // 1024, before // 1024, said)
"""


def memory(path: Path) -> tuple[int, int, str]:
    """MiB more than before, MiB before, and what was said."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read in /proc, which only Linux has")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    more, before, said = done.stdout.strip().split(" ", 2)
    return int(more), int(before), said


def test_a_study_is_in_memory_once(tmp_path: Path) -> None:
    """32 MiB of voxels as float32; stored in another order than slices are looked at."""
    affine = np.array([[0, 0, 2, 0], [2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]])
    path = save(tmp_path / "a.nii", np.ones((128, 256, 256), np.float32), affine)
    more, _, said = memory(path)
    assert said == "read" and more < 32 + 24


def test_an_archive_that_cannot_hold_what_is_claimed_is_refused_before_unpacking(tmp_path: Path) -> None:
    """512 MiB of voxels from half a megabyte: they are there, yet no image packs like that."""
    path = tmp_path / "a.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(header_bytes((800, 800, 800), 2, 8))
        for _ in range(64):
            packed.write(bytes(8_000_000))
    more, before, said = memory(path)
    assert "unpack to 512,000,000 voxels, which no image does" in said
    assert more < 50 and more + before < 600


def test_archives_of_several_members_are_read(tmp_path: Path) -> None:
    """Some packers write one member after another; only the last one's length stands at the end."""
    whole = header_bytes((20, 20, 20)) + np.arange(8000, dtype="<f4").tobytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(whole[:30000]) + gzip.compress(whole[30000:]))
    assert voxels(path).ravel(order="F")[-1] == 7999


# --- one bad study among many ---


def test_a_study_that_cannot_be_read_ends_preparation_or_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = isles2022_root(tmp_path / "data", [lesion(SHAPE, {1: (3, 3)})] * 3)
    data = Data("isles2022", (("DWI",), ("ADC",)), size=16, spacing_mm=2.0)
    broken = cases[1].images["ADC"]
    broken.write_bytes(broken.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"adc\.nii\.gz: it is damaged.*jaxstroke.check DATA names every fault"):
        build_cache(cases, data, tmp_path / "a")
    cache = build_cache(cases, data, tmp_path / "b", keep_going=True)
    assert [study.study for study in cache.studies] == ["sub-strokecase0001", "sub-strokecase0003"]
    assert f"warning: left out: {broken}" in capsys.readouterr().err
    assert build_cache(cases, data, tmp_path / "b", keep_going=True).fingerprint == cache.fingerprint
    for case in cases:
        case.images["DWI"].unlink()
    with pytest.raises(UserError, match="none of the 3 studies could be prepared"):
        build_cache(cases, data, tmp_path / "c", keep_going=True)


def test_who_is_left_out_moves_nobody_else() -> None:
    whole = Split(("a", "b"), ("c",), ("d", "e"))
    assert whole.only(["a", "c", "e"]) == Split(("a",), ("c",), ("e",))
    with pytest.raises(UserError, match="remains to train on"):
        whole.only(["c", "d"])


def test_a_study_without_annotation_is_left_out_and_one_that_cannot_be_entered_is_not(tmp_path: Path) -> None:
    isles2022_root(tmp_path, [lesion(SHAPE, {})] * 3)
    shutil.rmtree(tmp_path / "derivatives" / "sub-strokecase0001")
    shutil.rmtree(tmp_path / "sub-strokecase0002")
    (tmp_path / "sub-strokecase0002").mkdir()
    layout = find_layout("isles2022")
    source = Source(tmp_path, layout, tuple(layout.find(tmp_path)), False)
    assert [case.study[-1] for case in source.annotated(["lesion"])] == ["2", "3"]
    with pytest.raises(UserError, match="no study there has the annotation ADC/R1"):
        source.annotated(["ADC/R1"])
