"""ISLES 2022: diffusion MRI of acute and subacute stroke, 250 public cases, in native space, skull-stripped.

    sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_{dwi,adc}.nii.gz          the release
    sub-strokecase0001/ses-0001/anat/sub-strokecase0001_ses-0001_FLAIR.nii.gz
    derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz
    rawdata/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_{dwi,adc,flair}.nii.gz      the challenge
    derivatives/labels/sub-strokecase0001/ses-0001/..._msk.nii.gz                               a third variant

Source: Hernandez Petzsche et al., Scientific Data 9, 762 (2022).  Facts of the files: the ADC maps come in three
units; small negative values occur in ADC and DWI; affines are oblique; FLAIR lies on a grid of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts.adc_units import micro_mm2_per_s
from jaxstroke.data.layouts.container import study_of_slugs
from jaxstroke.data.layouts.layout import Layout, fault_of, folders, found
from jaxstroke.errors import UserError
from jaxstroke.phantoms.marker import phantom_patients

TITLE = "ISLES 2022"
SOURCE = "https://zenodo.org/records/7960856 (CC BY 4.0)"
EXPECTS = "sub-*/ses-*/dwi/*_dwi.nii.gz, or the same under rawdata/"

_WORD_BY_SUFFIX = {"dwi": "DWI", "adc": "ADC", "flair": "FLAIR"}
# The challenge's container: images/SLUG/*.mha.
_SLUGS = {"DWI": "dwi-brain-mri", "ADC": "adc-brain-mri", "FLAIR": "flair-brain-mri"}


def find(root: Path) -> list[Case]:
    """Finds every session of every subject; accepts the folder of the data set or its `rawdata`."""
    images = root / "rawdata" if (root / "rawdata").is_dir() else root
    one = study_of_slugs(root, "isles2022", _SLUGS)
    cases = [one] if one else _cases(_sessions(images))
    return found(cases, root, title=TITLE, expects=EXPECTS, source=SOURCE)


def _sessions(images: Path) -> list[Path]:
    """Every session's folder; a subject's own where it has none or cannot be entered."""
    return [one for subject in folders(images, "sub-*") for one in folders(subject, "ses-*") or [subject]]


def study(folder: Path) -> Case | None:
    """Takes a subject's folder with one session, or the session's folder."""
    one = study_of_slugs(folder, "isles2022", _SLUGS)
    if one:
        return one
    sessions = [folder] if folder.name.startswith("ses-") else sorted(folder.glob("ses-*"))
    if len(sessions) > 1:
        raise UserError(f"{folder}: it has {len(sessions)} sessions; name one, such as {sessions[0]}")
    return next((case for case in _cases(sessions) if case.images), None)


def _cases(sessions: list[Path]) -> Iterator[Case]:
    subjects = [session.parent.name for session in sessions]
    for session in sessions:
        if not session.name.startswith("ses-"):
            fault = fault_of(session)
            if fault:
                yield Case(session.name, session.name, {}, {}, "isles2022", fault)
            continue
        images = _images(session)
        fault = "" if images else fault_of(session)
        if not images and not fault:
            continue
        subject, images_root = session.parent.name, session.parent.parent
        name = subject if subjects.count(subject) == 1 else f"{subject}_{session.name}"
        patient = phantom_patients(images_root).get(name, subject)
        yield Case(name, patient, images, _masks(session, images_root), "isles2022", fault)


def _images(session: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted([*session.glob("*.nii*"), *session.glob("dwi/*.nii*"), *session.glob("anat/*.nii*")]):
        word = _WORD_BY_SUFFIX.get(path.name.split(".nii")[0].rpartition("_")[2].lower())
        if word is None:
            continue
        if word in files:
            raise UserError(f"{session}: it has two files of {word}, {files[word].name} and {path.name}; keep one")
        files[word] = path
    return files


def _masks(session: Path, images_root: Path) -> dict[str, Path]:
    root = images_root.parent if images_root.name == "rawdata" else images_root
    for derivatives in (root / "derivatives", root / "derivatives" / "labels"):
        drawn = sorted((derivatives / session.parent.name / session.name).glob("**/*_msk.nii*"))
        if drawn:
            return {"lesion": drawn[0]}
    return {}


def prediction_name(case: Case) -> str:
    """The name of the mask that the data set itself would give the study."""
    image = case.images.get("DWI") or next(iter(case.images.values()))
    if image.suffix == ".mha":  # of the challenge's container
        return f"{case.study}_msk.mha"
    return image.name.split(".nii")[0].rpartition("_")[0] + "_msk.nii.gz"


LAYOUT = Layout(
    name="isles2022",
    title=TITLE,
    source=SOURCE,
    expects=EXPECTS,
    modalities=("DWI", "ADC", "FLAIR"),
    targets=("lesion",),
    find=find,
    study=study,
    prediction_name=prediction_name,
    units={"DWI": "scanner units", "ADC": "1e-6 mm2/s", "FLAIR": "scanner units"},
    calibrate={"ADC": micro_mm2_per_s},
    windows={"ADC": (0, 3000)},
    own_grid=("FLAIR",),
)
