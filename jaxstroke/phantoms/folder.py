"""Studies as they may lie in anyone's own folder, with the description that says how they are named.

The patients are those of the two-reader phantom; their DWI and ADC are called as a hospital's export calls them, in a
folder for each of three centres, and one reader's mask lies apart.
"""

from __future__ import annotations

import json
from pathlib import Path

from jaxstroke.phantoms import nifti_files, two_reader

_CENTRES = ("north", "south", "west")
_DESCRIPTION = {
    "images": {
        "DWI": "{centre}/{patient}_{study}_ep2d_b1000.nii.gz",
        "ADC": "{centre}/{patient}_{study}_ep2d_ADC.nii.gz",
    },
    "masks": {"lesion": "masks/{study}.nii.gz"},
}
_FILES = {"dwi": "b1000", "adc": "ADC"}


def identity(index: int) -> tuple[str, str]:
    return f"exam{index + 1:04d}", f"p{index + 1:03d}"


def write_study(folder: Path, seed: int, index: int, *, with_ctp: bool) -> None:
    del with_ctp  # refused before: there is no CT in this layout
    name, patient = identity(index)
    study = two_reader.make_study(seed, index)
    centre = _CENTRES[index % len(_CENTRES)]
    for word, ending in _FILES.items():
        nifti_files.write(folder / centre / f"{patient}_{name}_ep2d_{ending}.nii.gz", *study[word])
    nifti_files.write(folder / "masks" / f"{name}.nii.gz", *study["dwi_r1"])


def finish(folder: Path, seed: int, cases: int) -> None:
    """Writes layout.json."""
    del seed, cases
    (folder / "layout.json").write_text(json.dumps(_DESCRIPTION, indent=2) + "\n", encoding="utf-8")
