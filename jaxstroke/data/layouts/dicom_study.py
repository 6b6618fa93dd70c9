"""DICOM files as studies: which belong to one study, and which of its series is DWI, ADC, FLAIR, CT, ...

A trace at a b-value near 1000 is DWI.  What cannot be told (two series that may both be FLAIR) is left out and said
by whoever asks for it; `layout.json` in the folder, or named in its place, then tells:

    {"series": {"DWI": "7*b1000", "FLAIR": "t2_tirm_*"}}

a series' number, or a pattern (* for any) of its description or of the label that the message gives it.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.errors import UserError
from jaxstroke.files.dicom.instances import is_dicom, pydicom_for, read
from jaxstroke.files.dicom.volumes import Volume, files_in, volumes_in, volumes_of

_LOWEST_B, _HIGHEST_B, _USUAL_B = 800.0, 1500.0, 1000.0


@dataclasses.dataclass(frozen=True)
class _Folder:
    """A folder with DICOM files in it: its volumes, or the file that is broken."""

    path: Path
    volumes: tuple[Volume, ...]
    fault: str = ""


def holds_dicom(root: Path) -> bool:
    """Whether any file below is DICOM."""
    return any(is_dicom(Path(folder) / name) for folder, _, names in os.walk(root) for name in names)


def cases(root: Path, series: Mapping[str, str], layout: str) -> list[Case]:
    """Every study below a folder, none where nothing is DICOM; `series` names them by modality, as in `layout.json`.

    That no series of any study could be told is a `UserError` that says what to do.
    """
    found = list(_cases(root, series, layout))
    if found and not any(case.images for case in found):
        first = found[0]
        why = (
            first.fault or f"{root}: it could not be told what its DICOM series are; {'; '.join(first.untold.values())}"
        )
        raise UserError(why)
    return found


def _cases(root: Path, series: Mapping[str, str], layout: str) -> Iterator[Case]:
    studies: dict[str, list[_Folder]] = collections.defaultdict(list)
    broken: list[_Folder] = []
    for folder in _folders(root):
        by_study: dict[str, list[Volume]] = collections.defaultdict(list)
        for volume in folder.volumes:
            by_study[volume.first.instance.study].append(volume)
        for study, volumes in by_study.items():
            studies[study].append(_Folder(folder.path, tuple(volumes)))
        broken += [folder] if folder.fault else []
    places = {study: Path(os.path.commonpath([one.path for one in found])) for study, found in studies.items()}
    for study, found in studies.items():
        place = places[study]
        alone = list(places.values()).count(place) == 1
        name = _name(place, root) if alone else f"{_name(place, root)}_{study}"
        fault = next((one.fault for one in broken if place in (one.path, *one.path.parents)), "")
        yield _case(name, place, [one for folder in found for one in folder.volumes], series, layout, fault)
    for one in broken:
        if not any(place in (one.path, *one.path.parents) for place in places.values()):
            yield Case(_name(one.path, root), _name(one.path, root), {}, {}, layout, one.fault)


def _folders(root: Path) -> Iterator[_Folder]:
    for place, folders, _ in os.walk(root):
        folders.sort()
        path = Path(place)
        there = files_in(path)
        if not there:
            continue
        pydicom_for(there[0])
        try:
            yield _Folder(path, tuple(volumes_in(path)))
        except UserError as error:
            yield _Folder(path, tuple(_volumes_of_the_rest(path)), str(error))


def _volumes_of_the_rest(folder: Path) -> list[Volume]:
    """Those of the files that are whole, so that the study is named beside its fault."""
    whole = []
    for path in files_in(folder):
        try:
            whole.append(read(path))
        except UserError:
            pass
    return volumes_of(whole)


def _name(place: Path, root: Path) -> str:
    """After the folders from the root to the study; the root's own where they lie in it."""
    return "_".join(place.relative_to(root).parts) or root.resolve().name


def _case(
    name: str, place: Path, volumes: Sequence[Volume], series: Mapping[str, str], layout: str, fault: str
) -> Case:
    images: dict[str, Path] = {}
    untold: dict[str, str] = {}
    for word in dict.fromkeys([*series, *filter(None, map(modality_of, volumes))]):
        pattern = series.get(word)
        fitting = [one for one in volumes if (_fits(one, pattern) if pattern else modality_of(one) == word)]
        best = _likeliest(word, fitting)
        if len(best) == 1:
            images[word] = best[0].path
        elif best or pattern:
            untold[word] = _told(word, best, pattern, volumes, place)
    told = {path: word for word, path in images.items()}
    rest = [one for one in volumes if one.path not in told]
    if rest:
        untold[""] = f"its other DICOM series are {_listed(rest)}: {_to_type('WORD', rest[0], place)}"
    patient = hashlib.sha256(volumes[0].first.instance.patient.encode()).hexdigest()[:12]
    return Case(name, patient if volumes[0].first.instance.patient else name, images, {}, layout, fault, untold=untold)


def _told(word: str, best: Sequence[Volume], pattern: str | None, volumes: Sequence[Volume], place: Path) -> str:
    if best:
        return f"{len(best)} DICOM series may be {word}, {_listed(best)}: {_to_type(word, best[0], place)}"
    return f'no DICOM series fits "{pattern}" for {word}; there are {_listed(volumes)}'


def _listed(volumes: Iterable[Volume]) -> str:
    labels = [f"'{one.label}'" for one in volumes]
    return ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")


def _to_type(word: str, volume: Volume, place: Path) -> str:
    return f"write {json.dumps({'series': {word: volume.label}})} into {place / 'layout.json'}"


# --- what a series is ------------------------------------------------------------------------------------------------


def _fits(volume: Volume, pattern: str) -> bool:
    instance = volume.first.instance
    if pattern == volume.label:
        return True
    texts = (volume.label, instance.description, str(instance.number))
    return any(fnmatch.fnmatchcase(text.lower(), pattern.lower()) for text in texts)


def _likeliest(word: str, fitting: list[Volume]) -> list[Volume]:
    """Of several that may be DWI the trace, and the b-value next to 1000; else all of them."""
    if word != "DWI" or len(fitting) < 2:
        return fitting
    fitting = [one for one in fitting if _b_of_dwi(one)] or fitting
    fitting = [one for one in fitting if _is_trace(one)] or fitting
    off = [abs((one.first.frame.b or 0.0) - _USUAL_B) for one in fitting]
    return [one for one, far in zip(fitting, off, strict=True) if far == min(off)]


def _is_trace(volume: Volume) -> bool:
    frame = volume.first.frame
    return frame.direction == "isotropic" or "TRACEW" in frame.kind or "ISOTROPIC" in frame.kind


def _b_of_dwi(volume: Volume) -> bool:
    return _LOWEST_B <= (volume.first.frame.b or 0.0) <= _HIGHEST_B


def modality_of(volume: Volume) -> str | None:
    """What a series is by its b-value, image type and description; None where they do not say, or nothing of use."""
    instance, frame = volume.first.instance, volume.first.frame
    words = set(re.split(r"[^a-z0-9*]+", instance.description.lower()))
    if "LOCALIZER" in frame.kind or words & {"localizer", "localiser", "scout", "survey", "topogram"}:
        return None
    for word in ("tmax", "mtt", "cbf", "cbv"):
        if word in words:
            return {"tmax": "Tmax"}.get(word, word.upper())
    if instance.modality == "CT":
        return _of_ct(words)
    return _of_mr(volume, words) if instance.modality == "MR" else None


def _of_ct(words: set[str]) -> str | None:
    if words & {"ctp", "perfusion", "perf", "dynamic", "4d", "mip", "dose", "bone"}:
        return None
    return "CTA" if words & {"cta", "angio", "angiography"} else "CT"


def _of_mr(volume: Volume, words: set[str]) -> str | None:
    frame = volume.first.frame
    text = " ".join(sorted(words))
    if words & {"eadc", "exponential"} or "EADC" in frame.kind:
        return None
    if "ADC" in frame.kind or "adc" in words or "apparent" in words:
        return "ADC"
    if frame.b is not None:
        return "DWI" if _b_of_dwi(volume) else None
    if words & {"trace", "tracew", "b1000"} or "TRACEW" in frame.kind:
        return "DWI"
    if words & {"swi", "t2*", "tof", "mra", "pwi", "dsc", "perf", "perfusion", "phase", "mip", "diff", "dti", "fa"}:
        return None
    if "flair" in text or "tirm" in words or {"dark", "fluid"} <= words:
        return "FLAIR"
    for start, word in (("t1", "T1w"), ("mprage", "T1w"), ("t2", "T2w")):
        if any(one.startswith(start) for one in words):
            return word
    return None
