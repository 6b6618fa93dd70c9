"""SOOP (OpenNeuro ds004889): clinical MRI of acute stroke as a BIDS folder, with acute and chronic lesions apart.

    sub-1/dwi/sub-1_rec-{TRACE,ADC}_dwi.nii.gz      4D files that hold one volume, on grids of their own
    sub-1/anat/sub-1_{T1w,FLAIR}.nii.gz
    derivatives/lesion_masks/sub-1/dwi/sub-1_space-TRACE_desc-{lesion,lesionAcute,lesionChronic}_mask.nii.gz

TRACE is what the other data sets call DWI, and the masks lie on its grid.  ADC was computed from the same scan, so it
is taken to that grid by its own coordinates; T1w and FLAIR need registration.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts.adc_units import micro_mm2_per_s
from jaxstroke.data.layouts.layout import Layout, fault_of, folders, found

TITLE = "SOOP"
SOURCE = "https://openneuro.org/datasets/ds004889 (CC0)"
EXPECTS = "sub-*/dwi/sub-*_rec-TRACE_dwi.nii.gz, masks in derivatives/lesion_masks/"

_IMAGES = {
    "DWI": "dwi/*_rec-TRACE_dwi.nii*",
    "ADC": "dwi/*_rec-ADC_dwi.nii*",
    "FLAIR": "anat/*_FLAIR.nii*",
    "T1w": "anat/*_T1w.nii*",
}
_MASKS = {"lesion": "lesion", "acute": "lesionAcute", "chronic": "lesionChronic"}


def find(root: Path) -> list[Case]:
    return found(_cases(folders(root, "sub-*")), root, title=TITLE, expects=EXPECTS, source=SOURCE)


def study(folder: Path) -> Case | None:
    return next((case for case in _cases([folder]) if case.images), None)


def _cases(subjects: list[Path]) -> Iterator[Case]:
    for subject in subjects:
        files = {word: sorted(subject.glob(pattern)) for word, pattern in _IMAGES.items()}
        images = {word: paths[0] for word, paths in files.items() if paths}
        fault = "" if images else fault_of(subject)
        if not fault and not images.keys() & {"DWI", "ADC"}:
            continue
        drawn = subject.parent / "derivatives" / "lesion_masks" / subject.name / "dwi"
        masks = {word: sorted(drawn.glob(f"*_desc-{name}_mask.nii*")) for word, name in _MASKS.items()}
        masks = {word: paths[0] for word, paths in masks.items() if paths}
        yield Case(subject.name, subject.name, images, masks, "soop", fault)


def prediction_name(case: Case) -> str:
    return f"{case.study}_space-TRACE_desc-lesion_mask.nii.gz"


LAYOUT = Layout(
    name="soop",
    title=TITLE,
    source=SOURCE,
    expects=EXPECTS,
    modalities=("DWI", "ADC", "FLAIR", "T1w"),
    targets=("lesion", "acute", "chronic"),
    find=find,
    study=study,
    prediction_name=prediction_name,
    units={"DWI": "scanner units", "ADC": "1e-6 mm2/s", "FLAIR": "scanner units", "T1w": "scanner units"},
    calibrate={"ADC": micro_mm2_per_s},
    windows={"ADC": (0, 3000)},
    own_grid=("FLAIR", "T1w"),
    same_scan=("ADC",),
)
