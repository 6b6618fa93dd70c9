"""Diffusion MRI that two readers annotated, on ADC and on DWI apart: a layout for data sets of that kind.

    study_001/adc.nii.gz  study_001/dwi.nii.gz           the images, on one grid
    study_001/adc_r1.nii.gz  study_001/dwi_r2.nii.gz     what reader R1 drew on ADC, what R2 drew on DWI, ...
    studies.csv                                          study,patient,group,split  (split: train or test)

Every study has reader R1; reader R2 may have seen the test studies only.  No public data set lies in this form; the
phantom does, and a private one can be laid out so.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from jaxstroke import command
from jaxstroke.data.case import Case
from jaxstroke.data.layouts.adc_units import micro_mm2_per_s
from jaxstroke.data.layouts.layout import Layout, fault_of, folders, found
from jaxstroke.errors import UserError
from jaxstroke.files.tables import read_rows

TITLE = "the two-reader layout"
SOURCE = f"your own archive (see docs/data.md), or make it with {command.text('phantom')} --layout two_reader"
EXPECTS = "study_*/adc.nii.gz, study_*/dwi.nii.gz, their masks adc_r1.nii.gz ... dwi_r2.nii.gz, and studies.csv"
TABLE = "studies.csv"
_COLUMNS = {"study", "patient", "group", "split"}


def find(root: Path) -> list[Case]:
    """Finds the studies; `studies.csv` must name every one of them with its patient."""
    studies = folders(root, "study_*")
    rows = _table(root) if studies else {}
    unnamed = [folder.name for folder in studies if folder.name not in rows]
    if unnamed:
        raise UserError(f"{root / TABLE}: the study {unnamed[0]} is not in it; add its row, which names its patient")
    return found(_cases(studies, rows), root, title=TITLE, expects=EXPECTS, source=SOURCE)


def study(folder: Path) -> Case | None:
    rows = _table(folder.parent) if (folder.parent / TABLE).is_file() else {}
    return next((case for case in _cases([folder], rows) if case.images), None)


def fixed_test(root: Path) -> frozenset[str]:
    """The studies whose row says `test`."""
    return frozenset(name for name, row in _table(root).items() if row["split"] == "test")


def _cases(studies: list[Path], rows: dict[str, dict[str, str]]) -> Iterator[Case]:
    for folder in studies:
        images = {word: _file(folder, word.lower()) for word in ("ADC", "DWI")}
        masks = {
            f"{word}/{reader}": _file(folder, f"{word}_{reader}".lower())
            for word, reader in itertools.product(("ADC", "DWI"), ("R1", "R2"))
        }
        images = {word: path for word, path in images.items() if path}
        fault = "" if images else fault_of(folder)
        if images or fault:
            patient = rows.get(folder.name, {}).get("patient", folder.name)
            drawn = {word: path for word, path in masks.items() if path}
            yield Case(folder.name, patient, images, drawn, "two_reader", fault)


def _file(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.nii.gz", folder / f"{stem}.nii") if os.path.lexists(path)), None)


def _table(root: Path) -> dict[str, dict[str, str]]:
    path = root / TABLE
    if not os.path.lexists(path):
        raise UserError(f"{path}: there is no such file; it must name each study's patient and split")
    rows = read_rows(path)
    if not rows or not _COLUMNS <= rows[0].keys():
        raise UserError(f"{path}: its columns must be {', '.join(sorted(_COLUMNS))}")
    for number, row in enumerate(rows, start=2):
        if row["split"] not in ("train", "test") or not row["patient"] or not row["study"]:
            raise UserError(f"{path}: line {number} needs a study, a patient, and train or test as its split")
    return {row["study"]: row for row in rows}


def prediction_name(case: Case) -> str:
    return f"{case.study}_prediction.nii.gz"


LAYOUT = Layout(
    name="two_reader",
    title=TITLE,
    source=SOURCE,
    expects=EXPECTS,
    modalities=("ADC", "DWI"),
    targets=("ADC/R1", "DWI/R1", "ADC/R2", "DWI/R2"),
    find=find,
    study=study,
    prediction_name=prediction_name,
    units={"ADC": "1e-6 mm2/s", "DWI": "scanner units"},
    calibrate={"ADC": micro_mm2_per_s},
    windows={"ADC": (0, 3000)},
    fixed_test=fixed_test,
)
