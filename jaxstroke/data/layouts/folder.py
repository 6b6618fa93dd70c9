"""Anyone's folder: a table that names each file, a description of how files are named, or plain names.

`studies.csv`, or any table that is named in the folder's place; the columns but the first four are the user's:

    study,patient,centre,split,DWI,ADC,mask:lesion
    a1,p1,north,train,a1/b1000.nii.gz,a1/adc.nii.gz,masks/a1.nii.gz

`layout.json`: {study}, {patient} and {centre} stand for a piece of a name, * for any:

    {"images": {"DWI": "{centre}/{patient}_{study}_b1000.nii.gz", "ADC": "{centre}/{patient}_{study}_adc.nii.gz"},
     "masks": {"lesion": "masks/{study}.nii.gz"}}

With neither, files directly in the folder or in its subfolders whose names end in a modality's word are taken:
`a1_dwi.nii.gz` and `a1_adc.nii.gz`, or `a1/dwi.nii.gz` and `a1/adc.nii.gz`; masks end in mask, msk, lesion or label.
Where no file has such a name, DICOM files are looked for (`dicom_study`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import dicom_study
from jaxstroke.data.layouts.adc_units import micro_mm2_per_s
from jaxstroke.data.layouts.layout import Layout, found
from jaxstroke.errors import UserError
from jaxstroke.files.opened import read_text
from jaxstroke.files.tables import read_rows

TITLE = "a folder of studies"
SOURCE = "your own archive (docs/data.md says how it may lie)"
EXPECTS = (
    "studies.csv, layout.json, files whose names end in dwi, adc, flair, t1w, ct, tmax, ... (.nii, .nii.gz, .mha), or "
    "DICOM files"
)
TABLE, DESCRIPTION = "studies.csv", "layout.json"

_RESERVED = ("study", "patient", "centre", "split")
_ENDING = re.compile(r"\.(nii|nii\.gz|mha)$")
_UNITS = {
    "DWI": "scanner units", "ADC": "1e-6 mm2/s", "FLAIR": "scanner units", "T1w": "scanner units",
    "T2w": "scanner units", "CT": "HU", "CTA": "HU", "CTP": "HU", "CBF": "vendor units", "CBV": "vendor units",
    "MTT": "s", "Tmax": "s",
}  # fmt: skip
_PLAIN = {word.lower(): word for word in _UNITS} | {
    "trace": "DWI", "b1000": "DWI", "ncct": "CT", "t1": "T1w", "t2": "T2w"
}  # fmt: skip
_PLAIN_MASKS = ("mask", "msk", "lesion", "label", "seg")


def find(root: Path) -> list[Case]:
    """Finds the studies that the table, the description, or else the names tell."""
    if root.suffix == ".csv" or os.path.lexists(root / TABLE):
        cases = list(_of_table(root if root.suffix == ".csv" else root / TABLE))
        root = root.parent if root.suffix == ".csv" else root
    elif root.suffix == ".json" or os.path.lexists(root / DESCRIPTION):
        description = root if root.suffix == ".json" else root / DESCRIPTION
        told = _described(description)
        root = description.parent / told.get("root", "")
        if "series" in told:
            cases = dicom_study.cases(root, told["series"], "folder")
        else:
            cases = list(_of_patterns(root, told["images"], told.get("masks", {})))
    else:
        cases = list(_of_names(root)) or dicom_study.cases(root, {}, "folder")
    return found(cases, root, title=TITLE, expects=EXPECTS, source=SOURCE)


def is_described(root: Path) -> bool:
    """Whether a table, a description or DICOM says that the studies lie in this layout, be it right or wrong."""
    told = root.suffix in (".csv", ".json") or any(os.path.lexists(root / name) for name in (TABLE, DESCRIPTION))
    return told or dicom_study.holds_dicom(root)


def study(folder: Path) -> Case | None:
    cases = list(_of_names(folder)) or dicom_study.cases(folder, {}, "folder")
    return cases[0] if len(cases) == 1 else None


# --- a table ---------------------------------------------------------------------------------------------------------


def _of_table(table: Path) -> Iterator[Case]:
    rows = read_rows(table)
    columns = [column for column in (rows[0] if rows else ()) if column]
    words = [column for column in columns if column not in _RESERVED]
    if "study" not in columns or not any(not word.startswith("mask:") for word in words):
        raise UserError(f"{table}: it needs a column study and one for each image, such as DWI (masks: mask:lesion)")
    for row in rows:
        name = row["study"].strip()
        if not name:
            raise UserError(f"{table}: a row names no study")
        files = {word: table.parent / value for word in words if (value := row[word].strip())}
        images = {word: path for word, path in files.items() if not word.startswith("mask:")}
        masks = {word.removeprefix("mask:"): path for word, path in files.items() if word.startswith("mask:")}
        fault = "" if images else f"{table}: study {name} has no image"
        yield Case(name, row.get("patient") or name, images, masks, "folder", fault, row.get("centre") or "")


def fixed_test(root: Path) -> frozenset[str]:
    """The studies whose row of the table says `test`."""
    table = root if root.suffix == ".csv" else root / TABLE
    if not table.is_file():
        return frozenset()
    return frozenset(row["study"] for row in read_rows(table) if row.get("split") == "test")


# --- patterns --------------------------------------------------------------------------------------------------------


def _described(path: Path) -> dict[str, Any]:
    try:
        description = dict(json.loads(read_text(path)))
        words = [dict(description[name]) for name in ("images", "series", "masks") if name in description]
        texts = [description.get("root", ""), *(text for one in words for text in one.values())]
        whole = all(isinstance(text, str) for text in texts)
        whole = whole and bool(description.get("images")) != bool(description.get("series"))
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        whole, description = False, {}
    if not whole:
        raise UserError(
            f'{path}: it must read {{"images": {{"DWI": "{{study}}_dwi.nii.gz", ...}}, "masks": {{...}}}}, '
            'or for DICOM {"series": {"DWI": "7*b1000", ...}}'
        )
    return description


def _of_patterns(root: Path, images: Mapping[str, str], masks: Mapping[str, str]) -> Iterator[Case]:
    names = sorted(_relative_files(root))
    files: dict[str, tuple[dict[str, Path], dict[str, Path]]] = {}
    facts: dict[str, dict[str, str]] = {}
    for patterns, place in ((images, 0), (masks, 1)):
        for word, pattern in patterns.items():
            for match in filter(None, map(_regex(pattern).fullmatch, names)):
                told = match.groupdict()
                found = files.setdefault(told["study"], ({}, {}))[place]
                if word in found:
                    raise UserError(
                        f"{root}: study {told['study']} has two files of {word}, {found[word]} and {match[0]}"
                    )
                found[word] = root / match[0]
                facts.setdefault(told["study"], {}).update(told)
    for name in sorted(name for name in files if files[name][0]):
        patient, centre = facts[name].get("patient", name), facts[name].get("centre", "")
        yield Case(name, patient, *files[name], "folder", "", centre)


def _regex(pattern: str) -> re.Pattern[str]:
    """A pattern of names as a regular expression; a word that stands twice means the same both times."""
    if "{study}" not in pattern:
        raise UserError(f"{pattern[:100]}: a pattern of names needs {{study}}, which tells the studies apart")
    seen: set[str] = set()
    text = ""
    for piece in re.split(r"(\{study\}|\{patient\}|\{centre\}|\*\*|\*|\?)", pattern):
        word = piece[1:-1]
        if piece in ("*", "**", "?"):
            text += {"*": "[^/]*", "**": ".*", "?": "[^/]"}[piece]
        elif piece.startswith("{") and piece.endswith("}"):
            text += f"(?P={word})" if word in seen else f"(?P<{word}>[^/]+?)"
            seen.add(word)
        else:
            text += re.escape(piece)
    return re.compile(text)


def _relative_files(root: Path) -> Iterator[str]:
    for folder, _, files in os.walk(root):
        for name in files:
            yield (Path(folder) / name).relative_to(root).as_posix()


# --- plain names -----------------------------------------------------------------------------------------------------


def _of_names(root: Path) -> Iterator[Case]:
    files: dict[str, tuple[dict[str, Path], dict[str, Path]]] = {}
    for path in sorted([*root.glob("*"), *root.glob("*/*")]):
        ending = _ENDING.search(path.name)
        if not ending:
            continue
        stem = path.name[: ending.start()]
        prefix, last = re.fullmatch(r"(?:(.*)[_.-])?([^_.-]*)", stem).groups()  # type: ignore[union-attr]
        word = _PLAIN.get(last.lower())
        if word is None and last.lower() not in _PLAIN_MASKS:
            continue
        found = files.setdefault(prefix or path.parent.resolve().name, ({}, {}))[0 if word else 1]
        word = word or "lesion"
        if word in found:
            raise UserError(f"{root}: {found[word].name} and {path.name} are both {word} of one study; keep one")
        found[word] = path
    for name in sorted(name for name in files if files[name][0]):
        yield Case(name, name, *files[name], "folder")


def prediction_name(case: Case) -> str:
    """After the study, in the form its images have."""
    ending = ".mha" if next(iter(case.images.values())).name.endswith(".mha") else ".nii.gz"
    return f"{case.study}_mask{ending}"


LAYOUT = Layout(
    name="folder",
    title=TITLE,
    source=SOURCE,
    expects=EXPECTS,
    modalities=tuple(_UNITS),
    targets=("lesion",),
    find=find,
    study=study,
    prediction_name=prediction_name,
    units=_UNITS,
    calibrate={"ADC": micro_mm2_per_s},
    windows={"ADC": (0, 3000), "CT": (0, 80), "CTA": (0, 90), "CTP": (0, 200), "MTT": (0, 20), "Tmax": (0, 20)},
    hounsfield=("CT", "CTA", "CTP"),
    fixed_test=fixed_test,
)
