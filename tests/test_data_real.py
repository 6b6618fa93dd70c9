"""Real studies of ISLES 2022, where they lie beside the checkout: what the layouts promise holds on them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxstroke.data.layouts import detect_layout, find_layout
from jaxstroke.data.preparation import brain, registration
from jaxstroke.data.prepare import prepare, restore
from jaxstroke.data.study import read_study
from jaxstroke.experiment import Data
from jaxstroke.files import nifti

ROOT = Path(__file__).parent.parent.parent / "shared" / "data" / "isles2022"

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="no real ISLES 2022 cases lie beside the checkout")


@pytest.mark.parametrize("number", range(4))
def test_a_real_study_there_and_back(tmp_path: Path, number: int) -> None:
    layout = detect_layout(ROOT)
    assert layout is find_layout("isles2022")
    case = layout.find(ROOT)[number]
    study = read_study(case, ["DWI", "ADC"], ["lesion"])
    adc = study.images["ADC"]
    assert 700 < np.median(adc[adc > 0]) < 1300, "1e-6 mm2/s, whatever the file's unit"
    original = nib.load(case.masks["lesion"])
    np.testing.assert_array_equal(study.grid.to_file(study.masks["lesion"]), original.get_fdata())
    np.testing.assert_allclose(study.spacing_mm, (2, 2, 2), rtol=1e-3)

    nifti.write_volume(tmp_path / "a.nii.gz", study.grid.to_file(study.masks["lesion"]), like=study.grid.header)
    written = nib.load(tmp_path / "a.nii.gz")
    image = nib.load(case.images["DWI"])
    np.testing.assert_array_equal(written.affine, image.affine)
    assert written.header["qform_code"] == image.header["qform_code"]

    same = Data("isles2022", (("DWI",), ("ADC",)), size=64, spacing_mm=2.0)
    prepared = prepare(study, same)
    np.testing.assert_array_equal(restore(prepared.masks, prepared.inverse)[..., 0], study.masks["lesion"])
    head = (study.images["DWI"] != 0) | (adc != 0)
    assert head[study.masks["lesion"] > 0].all(), "the lesion lies in the head"

    finer = prepare(study, Data("isles2022", (("DWI",), ("ADC",)), size=224, spacing_mm=1.0))
    lesion = restore(finer.masks.astype(np.float32), finer.inverse)[..., 0] > 0.5
    both = 2 * (lesion & (study.masks["lesion"] > 0)).sum()
    assert both / (lesion.sum() + study.masks["lesion"].sum()) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_real_adc_is_brought_back_to_real_dwi(number: int) -> None:
    """Moved by 7 mm and 7 degrees; how far each voxel of the brain is off after is printed, below half a voxel."""
    study = read_study(detect_layout(ROOT).find(ROOT)[number], ["DWI", "ADC"])
    dwi, place, move = study.images["DWI"], study.grid.voxels_to_mm, np.eye(4)
    move[:3, :3] = Rotation.from_euler("xyz", (4, -3, 5), degrees=True).as_matrix()
    move[:3, 3] = (5, -4, 3)
    found = registration.register(dwi, place, study.images["ADC"], move @ place)
    places = np.argwhere(dwi > 0) @ place[:3, :3].T + place[:3, 3]
    matrix = np.array(found.matrix)
    off = np.linalg.norm(places @ (matrix - move)[:3, :3].T + (matrix - move)[:3, 3], axis=1)
    print(f"case {number + 1}: mean {off.mean():.2f} mm, most {off.max():.2f} mm; {found.told()}")
    assert off.max() < 0.5 * min(study.spacing_mm)
    assert brain.brain_of(dwi, study.spacing_mm, hounsfield=False) is None, "the release is stripped"
