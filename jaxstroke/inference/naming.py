"""What the files of a prediction are called: after the study, as a challenge asks for it, or as a BIDS derivative."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.errors import UserError

# (case, kind, target): where below the folder for all.  The kind is "mask", "probability", "picture", "segmentation"
# (DICOM) or the word of another map; the target is empty where the network has one alone.
Naming = Callable[[Case, str, str], Path]
CHALLENGES = ("isles2018", "isles2022", "isles2024")
WORDS = (*CHALLENGES, "bids")
# Where the containers of ISLES 2022 and 2024 are to leave their masks.
_ANSWER = Path("images") / "stroke-lesion-segmentation"
_ENTITIES = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?")


def naming(word: str = "") -> Naming:
    """The way of naming that a word of `WORDS` stands for; without one, that of each study's own layout."""
    if word == "bids":
        return bids
    return functools.partial(after_challenge, word) if word else after_layout


def check_apart(names: Naming, cases: Sequence[Case]) -> None:
    """Two studies whose masks would be one file are refused before any is predicted."""
    owners: dict[Path, Case] = {}
    for case in cases:
        other = owners.setdefault(place := names(case, "mask", ""), case)
        if other is not case:
            raise UserError(
                f"{place}: the masks of {next(iter(other.images.values()), other.study)} and of "
                f"{next(iter(case.images.values()), case.study)} would both bear this name; predict them apart"
            )


def after_layout(case: Case, kind: str, target: str) -> Path:
    return _beside(find_layout(case.layout).prediction_name(case), kind, target)


def after_challenge(word: str, case: Case, kind: str, target: str) -> Path:
    """The mask as the challenge's server takes it; what it does not take lies beside, after the study."""
    if word == "isles2018":
        return _beside(find_layout(word).prediction_name(case), kind, target)
    image = case.images.get("DWI" if word == "isles2022" else "CT") or next(iter(case.images.values()))
    if kind == "mask":
        return _ANSWER / _beside(f"{_parts(image.name)[0]}.mha", kind, target)
    return _beside(f"{case.study}.nii.gz", kind, target)


def bids(case: Case, kind: str, target: str) -> Path:
    """`sub-X/[ses-Y/]dwi/sub-X[_ses-Y][_label-T]_desc-jaxstroke_mask.nii.gz`, `anat` without DWI and ADC."""
    found = next((match for path in case.images.values() if (match := _ENTITIES.match(path.name))), None)
    subject, session = found.groups() if found else (f"sub-{_letters(case.study)}", None)
    place = Path(subject) / (session or "") / ("dwi" if case.images.keys() & {"DWI", "ADC"} else "anat")
    entities = [subject, *([session] if session else []), *([f"label-{_letters(target)}"] if target else [])]
    ends = {"mask": "mask.nii.gz", "probability": "probseg.nii.gz", "picture": "mask.png", "segmentation": "mask.dcm"}
    made_by = "jaxstroke" if kind in ends else f"jaxstroke{_letters(kind.title())}"
    return place / "_".join([*entities, f"desc-{made_by}", ends.get(kind, "map.nii.gz")])


def _beside(mask_name: str, kind: str, target: str) -> Path:
    """After the mask's name: the target and the kind are put before the ending."""
    stem, ending = _parts(mask_name)
    stem += f"_{target.replace('/', '-').lower()}" if target else ""
    if kind in ("picture", "segmentation"):
        return Path(f"{stem}.{'png' if kind == 'picture' else 'dcm'}")
    return Path(f"{stem}{ending}" if kind == "mask" else f"{stem}_{kind.replace('/', '-')}{ending}")


def _parts(name: str) -> tuple[str, str]:
    ending = next((one for one in (".nii.gz", ".nii", ".mha") if name.endswith(one)), "")
    return name.removesuffix(ending), ending


def _letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text) or "x"
