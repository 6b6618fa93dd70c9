"""What an evaluation keeps of each study beside its scores: a view for the page, and a picture.

evaluation/test/views/0001.json      the study as `view` packs it; views.json says whose it is
evaluation/test/pictures/case_1.png  the slices that matter
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.data.study import without
from jaxstroke.pages.evaluated import INDEX, PICTURES, VIEWS, file_stem
from jaxstroke.pages.report import MOST_BYTES
from jaxstroke.pages.seen import Seen
from jaxstroke.pages.view import view
from jaxstroke.pictures.overlay import overlay

_MOST_BYTES_EACH = 2_500_000


class Keeper:
    """Called with each study that is seen; `close` writes the index, without which none of it counts."""

    def __init__(self, folder: Path, *, studies: int, phantom: bool) -> None:
        self._folder = folder
        self._phantom = phantom
        self._most_bytes = min(_MOST_BYTES_EACH, MOST_BYTES // max(studies, 1))
        self._index: dict[str, str] = {}
        for old in (folder / INDEX, folder / VIEWS, folder / PICTURES):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)

    def __call__(self, seen: Seen) -> None:
        study = seen.study.case.study
        name = f"{len(self._index) + 1:04}.json"
        made = view(seen, phantom=self._phantom, most_bytes=self._most_bytes)
        files.write_text(self._folder / VIEWS / name, json.dumps(made))
        self._index[study] = name
        self._draw(seen, file_stem(study))

    def _draw(self, seen: Seen, stem: str) -> None:
        first: dict[str, Any] = next(iter(seen.predictions.values()))
        for annotation, reference in seen.study.masks.items():
            marks = f"{' [phantom]' if self._phantom else ''}{without(seen.study.missing)}"
            title = f"{seen.study.case.study}{marks}: {annotation}"
            name = stem if len(seen.study.masks) == 1 else f"{stem}_{annotation.replace('/', '-').lower()}"
            overlay(
                seen.study,
                first[annotation],
                seen.probabilities[annotation],
                self._folder / PICTURES / f"{name}.png",
                title=title,
                reference=reference,
            )

    def close(self) -> None:
        files.write_json(self._folder / INDEX, self._index)
