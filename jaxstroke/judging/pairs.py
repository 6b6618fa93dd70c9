"""Which prediction belongs to which reference, where a person names two files or two folders.

A folder of references is a data set that is recognised, or NIfTI files.  A folder of predictions is one that predict
wrote, or NIfTI files that bear the references' names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.data.layouts import Layout, find_layout
from jaxstroke.data.lookup import look_up
from jaxstroke.data.source import QUALITY, column_of, with_tables
from jaxstroke.errors import UserError, nearest

PREDICTIONS = "predictions.json"
_PROBABILITY = "_probability"


@dataclasses.dataclass(frozen=True)
class Pair:
    """One reference and what is to be held against it.

    Attributes:
      case: its name: the study, and the annotation where a study has several.
      patient: whose it is, where the data set says so.
      layout: the data set's, None where the files belong to none.
      quality: of the images, where quality.csv in the folder of references tells it.
      probabilities, within: files on the same grid, where there are any.
    """

    case: str
    patient: str
    reference: Path
    prediction: Path
    layout: Layout | None = None
    probabilities: Path | None = None
    within: Path | None = None
    quality: str = ""


@dataclasses.dataclass(frozen=True)
class _Reference:
    patient: str
    file: Path
    names: tuple[str, ...]  # that a file of its prediction may bear, without ending
    layout: Layout | None = None
    quality: str = ""


def find(
    reference: Path,
    prediction: Path,
    *,
    probabilities: Path | None = None,
    within: Path | None = None,
    layout: str = "",
) -> list[Pair]:
    """Every pair; a reference without prediction, and a prediction without reference, is an error."""
    if reference.is_dir() != prediction.is_dir():
        raise UserError(f"{reference} and {prediction}: one is a folder, one is not; name two masks or two folders")
    chosen = find_layout(layout) if layout else None
    if not reference.is_dir():
        name = stem(reference)
        return [Pair(name, name, reference, prediction, chosen, probabilities, within)]
    references = _references(reference, layout)
    predicted, maps = _predictions(prediction)
    beside = {
        "probabilities": (maps if probabilities is None else _by_stem(probabilities), probabilities),
        "within": ({} if within is None else _by_stem(within), within),
    }
    pairs, taken = [], set()
    for case, one in references.items():
        name = next((name for name in one.names if name in predicted), None)
        if name is None:
            raise UserError(
                f"{prediction}: there is no prediction of {case}.{nearest(one.names[0], predicted)} It would be named "
                f"{one.names[0]}.nii.gz (or .nii); score leaves nothing out"
            )
        taken.add(name)
        found = {}
        for word, (there, folder) in beside.items():
            found[word] = next((there[other] for other in (name, *one.names) if other in there), None)
            if folder is not None and found[word] is None:
                raise UserError(f"{folder}: there is no file for {case}; it would be named {name}.nii.gz (or .nii)")
        chosen_for = one.layout or chosen
        pairs.append(Pair(case, one.patient, one.file, predicted[name], chosen_for, **found, quality=one.quality))
    left = sorted(predicted.keys() - taken)
    if left:
        raise UserError(f"{predicted[left[0]]}: it has no reference in {reference} ({len(left)} such files there)")
    return pairs


def stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _references(root: Path, layout: str) -> dict[str, _Reference]:
    own = _by_stem(root, missing_is_error=False)
    if own and not layout:
        quality = column_of(root / QUALITY, "quality")
        return {
            name: _Reference(name, file, (name,), quality=quality.get(name, ""))
            for name, file in own.items()
            if not name.endswith(_PROBABILITY)
        }
    try:
        chosen, cases = look_up(root, layout)
    except UserError as error:
        if layout:
            raise
        raise UserError(f"{root}: it holds no NIfTI files, and no known data set ({error})") from None
    found = {}
    for case in with_tables(cases, root):
        if case.fault:
            raise UserError(case.fault)
        for target, file in case.masks.items():
            several = len(case.masks) > 1
            published = stem(Path(chosen.prediction_name(case)))
            word = target.replace("/", "-").lower()
            names = (f"{case.study}_{word}", f"{published}_{word}") if several else (case.study, published)
            found[f"{case.study} {target}" if several else case.study] = _Reference(
                case.patient, file, (*names, stem(file)), chosen, case.facts.get("quality", "")
            )
    if not found:
        raise UserError(f"{root}: none of its studies has an annotation")
    return found


def _predictions(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Masks and probability maps by the name of the case."""
    if not (folder / PREDICTIONS).is_file():
        there = _by_stem(folder)
        masks = {name: file for name, file in there.items() if not name.endswith(_PROBABILITY)}
        maps = {name.removesuffix(_PROBABILITY): file for name, file in there.items() if name.endswith(_PROBABILITY)}
        return masks, {name: file for name, file in maps.items() if name in masks}
    told = files.read_json(folder / PREDICTIONS)
    lines = told.get("predictions") if isinstance(told, dict) else None
    if not isinstance(lines, list) or not all(_is_line(line) for line in lines):
        raise UserError(f"{folder / PREDICTIONS}: it is damaged; give the masks a folder of their own")
    targets = {line["target"] for line in lines}
    masks, maps = {}, {}
    for line in lines:
        word = line["target"].replace("/", "-").lower()
        name = line["study"] if len(targets) == 1 else f"{line['study']}_{word}"
        masks[name] = folder / Path(line["mask"]).name  # the folder may have been moved
        maps[name] = folder / Path(line["probability"]).name
    return masks, maps


def _is_line(line: Any) -> bool:
    wanted = ("study", "target", "mask", "probability")
    return isinstance(line, Mapping) and all(isinstance(line.get(word), str) for word in wanted)


def _by_stem(folder: Path, *, missing_is_error: bool = True) -> dict[str, Path]:
    """The NIfTI files of a folder by their names without ending."""
    found: dict[str, Path] = {}
    there = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(path for path in there if path.name.endswith((".nii", ".nii.gz")) and path.name[0] != "."):
        if stem(path) in found:
            raise UserError(f"{path}: {found[stem(path)].name} lies beside it; keep one of the two")
        found[stem(path)] = path
    if not found and missing_is_error:
        raise UserError(f"{folder}: there are no NIfTI files (.nii, .nii.gz)")
    return found
