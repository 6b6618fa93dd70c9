"""ATLAS R3.0, also the training data of ISLES 2026: T1-weighted MRI of subacute and chronic stroke, 55 sites.

    Training_Raw/R001/sub-r001s002/ses-1/anat/sub-r001s002_ses-1_space-orig_desc-brain_T1w.nii.gz
    Training_Raw/R001/sub-r001s002/ses-1/anat/sub-r001s002_ses-1_space-orig_label-lesion_desc-T1lesion_mask.nii.gz
    Training_Raw/R001/sub-r001s002/ses-1/anat/..._metadata.csv      SITE, DAYS_POST_STROKE, CHRONICITY, ...

Facts of the files: voxels are stored in four orientations; T1w is int16 with a slope and an intercept, masks are
float32 or uint16; what CHRONICITY 1 means is disputed, so the days are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts.layout import Layout, fault_of, folders, found
from jaxstroke.errors import UserError
from jaxstroke.files.tables import read_rows

TITLE = "ATLAS R3.0 (ISLES 2026)"
SOURCE = "https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html (after registration)"
EXPECTS = "Training_Raw/R*/sub-*/ses-*/anat/*_T1w.nii.gz, or the same without Training_Raw"
_FACTS = {"DAYS_POST_STROKE": "days_post_stroke", "CHRONICITY": "chronicity", "SITE": "site"}


def find(root: Path) -> list[Case]:
    """Finds every session; accepts the data set's folder or its `Training_Raw`."""
    base = root / "Training_Raw" if (root / "Training_Raw").is_dir() else root
    subjects = [subject for site in folders(base, "R[0-9]*") for subject in folders(site, "sub-*")]
    return found(_cases(subjects), root, title=TITLE, expects=EXPECTS, source=SOURCE)


def study(folder: Path) -> Case | None:
    """Takes a subject's folder with one session."""
    cases = [case for case in _cases([folder]) if case.images]
    if len(cases) > 1:
        raise UserError(f"{folder}: it has {len(cases)} sessions; name the folder above it, or keep one")
    return cases[0] if cases else None


def _cases(subjects: list[Path]) -> Iterator[Case]:
    for subject in subjects:
        sessions = folders(subject, "ses-*")
        fault = fault_of(subject)
        if fault:
            yield Case(subject.name, subject.name, {}, {}, "atlas", fault, subject.parent.name)
        for session in sessions:
            image = _one(session, "*_T1w.nii*")
            mask = _one(session, "*_mask.nii*")
            fault = "" if image else fault_of(session)
            if image is None and not fault:
                continue
            name = subject.name if len(sessions) == 1 else f"{subject.name}_{session.name}"
            images, masks = {"T1w": image} if image else {}, {"lesion": mask} if mask else {}
            facts = _facts(session)
            yield Case(name, subject.name, images, masks, "atlas", fault, subject.parent.name, facts)


def _one(session: Path, pattern: str) -> Path | None:
    files = sorted([*session.glob(f"anat/{pattern}"), *session.glob(pattern)])
    if len(files) > 1:
        raise UserError(f"{session}: it has {len(files)} files {pattern}, such as {files[0].name}; keep one")
    return files[0] if files else None


def _facts(session: Path) -> dict[str, str]:
    table = next(iter(sorted([*session.glob("anat/*_metadata.csv"), *session.glob("*_metadata.csv")])), None)
    rows = read_rows(table) if table else []
    return {word: rows[0][column] for column, word in _FACTS.items() if rows and rows[0].get(column)}


def prediction_name(case: Case) -> str:
    """The name of the mask that the data set itself would give the study."""
    image = case.images.get("T1w") or next(iter(case.images.values()))
    stem = image.name.split(".nii")[0].removesuffix("_T1w").removesuffix("_desc-brain")
    return f"{stem}_label-lesion_desc-T1lesion_mask.nii.gz"


LAYOUT = Layout(
    name="atlas",
    title=TITLE,
    source=SOURCE,
    expects=EXPECTS,
    modalities=("T1w",),
    targets=("lesion",),
    find=find,
    study=study,
    prediction_name=prediction_name,
    units={"T1w": "scanner units"},
)
