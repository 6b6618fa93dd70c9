"""What a prediction leaves on disk: for each target a mask, its probabilities and a picture, and the maps asked for."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke import __version__
from jaxstroke.data.study import Study, without
from jaxstroke.errors import UserError
from jaxstroke.files.dicom import segmentation
from jaxstroke.files.nifti import write_volume
from jaxstroke.inference.doubts import each_lesion, entropy_bits
from jaxstroke.inference.naming import Naming, after_layout
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.metrics import overlap
from jaxstroke.pictures.overlay import overlay


def write(
    out: Path,
    study: Study,
    answer: Answer,
    system: System,
    targets: tuple[str, ...],
    *,
    phantoms: Collection[str] = (),
    uncertainty: bool = False,
    naming: Naming = after_layout,
) -> list[dict[str, Any]]:
    """Writes a study's answer under the names that `naming` gives its files; returns what to tell of it.

    Of a DICOM series with a frame of reference there is also a DICOM segmentation.  `phantoms` names the studies whose
    pictures say that they are phantoms.
    """
    make(out)
    maps = {path: out / naming(study.case, path, "") for path in answer.maps}
    for path, values in answer.maps.items():
        _write_volume(maps[path], values.astype(np.float32), study)
    told, unlike = [], system.doubts.unlike(answer)
    for index, target in enumerate(targets):
        values = answer.probabilities[..., index].astype(np.float32)
        mask = system.mask(values, study.spacing_mm)
        shown = target if len(targets) > 1 else ""
        files = {kind: out / naming(study.case, kind, shown) for kind in ("mask", "probability", "picture")}
        _write_volume(files["mask"], mask.astype(np.uint8), study)
        _write_volume(files["probability"], values, study)
        volume = study.grid.header.dicom
        if volume is not None and volume.first.instance.frame_of_reference:
            files["segmentation"] = out / naming(study.case, "segmentation", shown)
            in_file = study.grid.to_file(mask)
            segmentation.write(
                files["segmentation"], in_file, volume, label=target, network=system.name, version=__version__
            )
        if uncertainty:
            files |= _write_uncertainty(
                lambda word, shown=shown: out / naming(study.case, word, shown), answer, index, study
            )
        marks = f"{' [phantom]' if study.case.study in phantoms else ''}{without(study.missing)}"
        title = f"{study.case.study}{marks}: {target}"
        overlay(study, mask, values, files["picture"], title=title)
        told.append(
            {
                "study": study.case.study,
                "target": target,
                **{kind: str(path) for kind, path in files.items()},
                "intermediates": {path: str(file) for path, file in maps.items()},
                **_sure(system, target, mask, values, answer, index, study),
                "unlike": unlike,
                "missing": list(study.missing),
                "warnings": list(study.warnings),
                "preparation": list(study.prepared),
            }
        )
    return told


def _write_uncertainty(place: Callable[[str], Path], answer: Answer, index: int, study: Study) -> dict[str, Path]:
    """The entropy of each voxel, and with several passes their spread."""
    maps = {"entropy": entropy_bits(answer.probabilities[..., index])}
    if answer.spread is not None:
        maps["spread"] = answer.spread[..., index]
    for word, values in maps.items():
        _write_volume(place(word), values.astype(np.float32), study)
    return {word: place(word) for word in maps}


def _sure(
    system: System, target: str, mask: np.ndarray, values: np.ndarray, answer: Answer, index: int, study: Study
) -> dict[str, Any]:
    """Volume with its interval, and every lesion."""
    volume_ml = overlap.volume_ml(mask, study.spacing_mm)
    interval = system.doubts.interval(target, volume_ml)
    rows = each_lesion(mask, values, None if answer.votes is None else answer.votes[..., index], study.spacing_mm)
    return {
        "volume_ml": volume_ml,
        "interval": None if interval is None else dataclasses.asdict(interval),
        "lesions": len(rows),
        "each_lesion": rows,
    }


def lesions_csv(told: Sequence[Mapping[str, Any]]) -> str:
    """The table of all lesions of all studies."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    names = ("lesion", "volume_ml", "probability", "agreement")
    writer.writerow(["study", "target", *names])
    for one in told:
        for row in one["each_lesion"]:
            writer.writerow([one["study"], one["target"], *(row.get(name, "") for name in names)])
    return content.getvalue()


def make(out: Path) -> None:
    """The folder for what is predicted."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: this folder cannot be made ({error.strerror}); choose another -o") from None


def _write_volume(path: Path, values: np.ndarray, study: Study) -> None:
    """On the study's own grid, so that a viewer lays it over the study's images."""
    write_volume(path, study.grid.to_file(values), like=study.grid.header)
