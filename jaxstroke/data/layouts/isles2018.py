"""ISLES 2018: CT and CT perfusion of acute stroke, 94 training cases of 63 patients and 62 test cases of 40.

    TRAINING/case_1/SMIR.Brain.XX.O.CT_MTT.345564/SMIR.Brain.XX.O.CT_MTT.345564.nii     and CT, CT_4DPWI, CT_CBF,
    TESTING/case_1/...                                                                   CT_CBV, CT_Tmax; OT: the lesion

Public sources: https://www.isles-challenge.org/ISLES2018 and Hakim et al., Stroke 52 (2021) 2328.  Facts of the files:
the sform is the identity although pixdim is right, so voxel sizes are taken from pixdim; a patient with a short
scanner came as two slabs, two cases of one patient; an early export writes MR_4DPWI, MR_MTT and MR_Tmax; CBF and CBV
are in units of the vendor's software, not in mL/100 g/min.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts.layout import Layout, fault_of, folders, found
from jaxstroke.errors import UserError
from jaxstroke.phantoms.marker import phantom_patients

TITLE = "ISLES 2018"
SOURCE = "https://www.smir.ch/ISLES/Start2018 or https://www.isles-challenge.org (free, after registration)"
EXPECTS = "TRAINING/case_*/SMIR.*.CT_MTT.*/SMIR.*.CT_MTT.*.nii"

_WORD_BY_KIND = {
    "CT": "CT",
    "CT_4DPWI": "CTP",
    "MR_4DPWI": "CTP",
    "CT_CBF": "CBF",
    "CT_CBV": "CBV",
    "CT_MTT": "MTT",
    "MR_MTT": "MTT",
    "CT_Tmax": "Tmax",
    "MR_Tmax": "Tmax",
    "OT": "lesion",
}
_FILE = re.compile(r"SMIR\..*\.(?P<kind>[A-Za-z0-9_]+)\.(?P<id>\d+)\.nii(\.gz)?")

# Cases are numbered patient by patient: digit n is the number of cases (slabs) of patient n.
_CASES_OF_PATIENTS = {
    "TRAINING": "222211111111121221221122212222222222212222221212111111111111111",
    "TESTING": "1111111112122222222222222222111111212221",
}


def _published_patients(partition: str) -> dict[str, str]:
    """Patient by case: {"case_1": "train_1", "case_2": "train_1", "case_3": "train_2", ...}."""
    prefix = "train" if partition == "TRAINING" else "test"
    counts = enumerate(_CASES_OF_PATIENTS[partition], start=1)
    patients = itertools.chain.from_iterable([f"{prefix}_{patient}"] * int(count) for patient, count in counts)
    return {f"case_{case}": patient for case, patient in enumerate(patients, start=1)}


def _partition(root: Path) -> Path:
    """The folder that holds the cases: TRAINING where there is one, else the folder itself (TRAINING, TESTING)."""
    return root / "TRAINING" if (root / "TRAINING").is_dir() else root


def find(root: Path) -> list[Case]:
    """Finds the training cases of the data set's folder, or the cases of the partition's folder that is named."""
    folder = _partition(root)
    numbered = sorted(folders(folder, "case_*"), key=_number)
    return found(_cases(numbered), root, title=TITLE, expects=EXPECTS, source=SOURCE)


def study(folder: Path) -> Case | None:
    return next((case for case in _cases([folder]) if case.images), None)


def _cases(studies: list[Path]) -> Iterator[Case]:
    for folder in studies:
        files = _files(folder)
        fault = "" if files else fault_of(folder)
        if files or fault:
            masks = {"lesion": files.pop("lesion")} if "lesion" in files else {}
            yield Case(folder.name, _patient(folder), files, masks, "isles2018", fault)


def _patient(folder: Path) -> str:
    """The case's patient: as the phantom says, else as published, else a patient of its own."""
    made = phantom_patients(folder.parent)
    partition = "TESTING" if folder.parent.name == "TESTING" else "TRAINING"
    return made.get(folder.name) or _published_patients(partition).get(folder.name, folder.name)


def _number(folder: Path) -> tuple[int, str]:
    digits = folder.name.removeprefix("case_")
    return (int(digits) if digits.isdecimal() else 10**9, folder.name)


def _files(folder: Path) -> dict[str, Path]:
    """File by word; the kind must match exactly, since every other kind's name contains "CT"."""
    files: dict[str, Path] = {}
    for path in sorted([*folder.glob("SMIR.*/SMIR.*.nii*"), *folder.glob("SMIR.*.nii*")]):
        match = _FILE.fullmatch(path.name)
        word = _WORD_BY_KIND.get(match["kind"]) if match else None
        if word is None:
            continue
        if word in files:
            raise UserError(f"{folder}: it has two files of {word}, {files[word].name} and {path.name}; keep one")
        files[word] = path
    return files


def prediction_name(case: Case) -> str:
    """The name that the challenge's server asks for, with the identifier of the case's MTT map."""
    match = _FILE.fullmatch(case.images["MTT"].name) if "MTT" in case.images else None
    return f"SMIR.jaxstroke.{match['id'] if match else case.study}.nii"


LAYOUT = Layout(
    name="isles2018",
    title=TITLE,
    source=SOURCE,
    expects=EXPECTS,
    modalities=("CT", "CTP", "CBF", "CBV", "MTT", "Tmax"),
    targets=("lesion",),
    find=find,
    study=study,
    prediction_name=prediction_name,
    units={"CT": "HU", "CTP": "HU", "CBF": "vendor units", "CBV": "vendor units", "MTT": "s", "Tmax": "s"},
    # Ours: soft tissue for CT; for the rest, from 0 to about twice what healthy tissue shows, seconds to 20.
    windows={"CT": (0, 80), "CTP": (0, 200), "CBF": (0, 800), "CBV": (0, 80), "MTT": (0, 20), "Tmax": (0, 20)},
    hounsfield=("CT", "CTP"),
    affine_from_zooms=True,
)
