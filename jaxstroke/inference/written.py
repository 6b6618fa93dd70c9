"""What a prediction leaves on disk: for each target a mask, its probabilities and a picture, and the maps asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke.data.layouts import Layout
from jaxstroke.data.study import Study
from jaxstroke.errors import UserError
from jaxstroke.files.nifti import write_volume
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.metrics import lesions, overlap
from jaxstroke.pictures.overlay import overlay


def write(
    out: Path, layout: Layout, study: Study, answer: Answer, system: System, targets: tuple[str, ...], *, phantom: bool
) -> list[dict[str, Any]]:
    """Writes a study's answer under the name that its data set's challenge asks for; returns what to tell of it."""
    make(out)
    stem, ending = _parts(layout.prediction_name(study.case))
    maps = {path: out / f"{stem}_{path.replace('/', '-')}{ending}" for path in answer.maps}
    for path, values in answer.maps.items():
        _write_volume(maps[path], values.astype(np.float32), study)
    told = []
    for index, target in enumerate(targets):
        values = answer.probabilities[..., index].astype(np.float32)
        mask = system.mask(values, study.spacing_mm)
        name = stem if len(targets) == 1 else f"{stem}_{target.replace('/', '-').lower()}"
        files = {
            "mask": out / f"{name}{ending}",
            "probability": out / f"{name}_probability{ending}",
            "picture": out / f"{name}.png",
        }
        _write_volume(files["mask"], mask.astype(np.uint8), study)
        _write_volume(files["probability"], values, study)
        title = f"{study.case.study}{' [phantom]' if phantom else ''}: {target}"
        overlay(study, mask, values, files["picture"], title=title)
        told.append(
            {
                "study": study.case.study,
                "target": target,
                **{kind: str(path) for kind, path in files.items()},
                "intermediates": {path: str(file) for path, file in maps.items()},
                "volume_ml": overlap.volume_ml(mask, study.spacing_mm),
                "lesions": lesions.components(mask)[1],
                "warnings": list(study.warnings),
            }
        )
    return told


def make(out: Path) -> None:
    """The folder for what is predicted."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: this folder cannot be made ({error.strerror}); choose another -o") from None


def _write_volume(path: Path, values: np.ndarray, study: Study) -> None:
    """On the study's own grid, so that a viewer lays it over the study's images."""
    write_volume(path, study.grid.to_file(values), like=study.grid.header)


def _parts(name: str) -> tuple[str, str]:
    ending = ".nii.gz" if name.endswith(".nii.gz") else ".nii"
    return name[: -len(ending)], ending
