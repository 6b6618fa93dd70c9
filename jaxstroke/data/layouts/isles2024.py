"""ISLES 2024: CT, CT angiography and CT perfusion on admission, and the infarct that is left days later; 149 cases.

    train/raw_data/sub-stroke0001/ses-01/sub-stroke0001_ses-01_ncct.nii.gz
    train/derivatives/sub-stroke0001/ses-01/..._space-ncct_{cta,ctp}.nii.gz
    train/derivatives/sub-stroke0001/ses-01/perfusion-maps/..._space-ncct_{tmax,mtt,cbf,cbv}.nii.gz
    train/derivatives/sub-stroke0001/ses-02/..._space-ncct_{dwi,adc,lesion-msk}.nii.gz
    train/phenotype/sub-stroke0001/ses-01/..._demographic_baseline.csv

Source: Riedel et al., arXiv 2408.11142.  Facts of the files: everything under derivatives lies on the grid of the
unenhanced CT, which is often tilted; older releases name the mask without `space-ncct`; one mask lies there a second
time, uncompressed; one is stored as 65535 times 1.52590219e-5, which is a little less than 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts.adc_units import micro_mm2_per_s
from jaxstroke.data.layouts.container import study_of_slugs
from jaxstroke.data.layouts.layout import Layout, fault_of, folders, found
from jaxstroke.errors import UserError
from jaxstroke.files.tables import read_rows
from jaxstroke.phantoms.marker import phantom_patients

TITLE = "ISLES 2024"
SOURCE = "https://zenodo.org/records/17652035 (CC BY-NC-SA 4.0)"
EXPECTS = "train/raw_data/sub-stroke*/ses-01/*_ncct.nii.gz, and what lies on its grid under train/derivatives/"

_RAW = {"ncct": "CT"}
_DERIVED = {
    "cta": "CTA", "ctp": "CTP", "tmax": "Tmax", "mtt": "MTT", "cbf": "CBF", "cbv": "CBV", "dwi": "DWI", "adc": "ADC"
}  # fmt: skip
_MASK = "lesion-msk"
_SLUGS = {
    "CT": "non-contrast-ct",
    "CTA": "preprocessed-CT-angiography",
    "Tmax": "preprocessed-tmax-map",
    "MTT": "preprocessed-mtt-map",
    "CBF": "preprocessed-cbf-map",
    "CBV": "preprocessed-cbv-map",
}
_CENTRE_COLUMNS = ("centre", "center", "site", "hospital")


def find(root: Path) -> list[Case]:
    """Finds the subjects of the data set's folder, of its `train`, or the one study of the challenge's container."""
    one = study_of_slugs(root, "isles2024", _SLUGS)
    cases = [one] if one else list(_cases(*_roots(root)))
    return found(cases, root, title=TITLE, expects=EXPECTS, source=SOURCE)


def study(folder: Path) -> Case | None:
    """Takes a subject's folder under raw_data, or the container's input."""
    one = study_of_slugs(folder, "isles2024", _SLUGS)
    if one or folder.parent.name not in ("raw_data", "rawdata"):
        return one
    derived = folder.parent.parent / "derivatives"
    return next((case for case in _cases(folder.parent, derived) if case.study == folder.name and case.images), None)


def _roots(root: Path) -> tuple[Path, Path]:
    base = root / "train" if (root / "train").is_dir() else root
    raw = next((base / name for name in ("raw_data", "rawdata") if (base / name).is_dir()), base / "raw_data")
    return raw, base / "derivatives"


def _cases(raw: Path, derived: Path) -> Iterator[Case]:
    patients = phantom_patients(raw.parent)
    for subject in folders(raw, "sub-stroke*"):
        name = subject.name
        images = _files(subject, _RAW)
        if "CT" not in images and _files(subject, {"dwi": "DWI"}) and not _files(derived / name, _DERIVED):
            continue  # another data set's subject: this one's all have an unenhanced CT
        images |= {word: path for word, path in _files(derived / name, _DERIVED).items() if word not in images}
        masks = _files(derived / name, {_MASK: "lesion"})
        fault = "" if images else fault_of(subject)
        if images or fault:
            centre = _centre(raw.parent / "phenotype" / name)
            patient = patients.get(name, name)
            yield Case(name, patient, images, masks, "isles2024", fault, centre)


def _files(folder: Path, words: dict[str, str]) -> dict[str, Path]:
    """File by word; of a file that is there packed and not packed, the packed one."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("ses-*/**/*.nii*")):
        word = words.get(path.name.split(".nii")[0].rpartition("_")[2].lower())
        if word is None:
            continue
        other = files.setdefault(word, path)
        if other == path:
            continue
        same = other.name.split(".nii")[0] == path.name.split(".nii")[0]
        placed = [one for one in (other, path) if "_space-ncct_" in one.name]
        if not same and len(placed) != 1:
            raise UserError(f"{folder}: it has two files of {word}, {other.name} and {path.name}; keep one")
        files[word] = max((other, path), key=lambda one: one.name.endswith(".gz")) if same else placed[0]
    return files


def _centre(phenotype: Path) -> str:
    """The centre that a subject's table names, empty where none does."""
    for table in sorted(phenotype.glob("ses-*/*.csv")):
        for row in read_rows(table):
            for column, value in row.items():
                if column.strip().lower() in _CENTRE_COLUMNS and value:
                    return value.strip()
    return ""


def prediction_name(case: Case) -> str:
    if any(image.suffix == ".mha" for image in case.images.values()):  # of the challenge's container
        return f"{case.study}_lesion-msk.mha"
    return f"{case.study}_ses-02_space-ncct_lesion-msk.nii.gz"


LAYOUT = Layout(
    name="isles2024",
    title=TITLE,
    source=SOURCE,
    expects=EXPECTS,
    modalities=("CT", "CTA", "CTP", "Tmax", "MTT", "CBF", "CBV", "DWI", "ADC"),
    targets=("lesion",),
    find=find,
    study=study,
    prediction_name=prediction_name,
    units={
        "CT": "HU",
        "CTA": "HU",
        "CTP": "HU",
        "Tmax": "s",
        "MTT": "s",
        "CBF": "mL/100 g/min",
        "CBV": "mL/100 g",
        "DWI": "scanner units",
        "ADC": "1e-6 mm2/s",
    },  # fmt: skip
    calibrate={"ADC": micro_mm2_per_s},
    # The maps' and CTA's as the challenge's winner clipped them; CT's is soft tissue.
    windows={
        "CT": (0, 80),
        "CTA": (0, 90),
        "CTP": (0, 200),
        "Tmax": (0, 7),
        "MTT": (0, 20),
        "CBF": (0, 35),
        "CBV": (0, 10),
        "ADC": (0, 3000),
    },  # fmt: skip
    hounsfield=("CT", "CTA", "CTP"),
)
