"""What a cache is made of: the recipe and the source files, and the fingerprint of both that its folder bears."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.data.case import Case
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data
from jaxstroke.files import nifti

# Changes whenever preparation or the form of the cache does, so that old caches are not mistaken for new ones.
FORMAT = 2


def identity(path: Path) -> tuple[int, str]:
    digest = files.sha256(path)
    return path.stat().st_size, digest


def recipe_of(data: Data) -> dict[str, Any]:
    """The fields of `Data` that change what preparation writes."""
    own = {word: data.normalise_of[word] for word in data.channels if data.normalisation(word) != data.normalise}
    return {
        "layout": data.layout,
        "channels": list(data.channels),
        "targets": list(data.targets),
        "size": data.size,
        "spacing_mm": data.spacing_mm,
        "normalise": data.normalise,
        "time_points": data.depth if data.kind.holds_times else None,
        # Absent where there are none, as it was before there could be any.
        **({"normalise_of": own} if own else {}),
        **({"preparation": dataclasses.asdict(data.preparation)} if data.preparation.any else {}),
    }


def source_files(case: Case, data: Data) -> dict[str, list[Any]]:
    """Path (from the study's common folder), bytes and SHA-256 of each file that preparation reads."""
    if case.fault:
        raise UserError(case.fault)
    paths = {word: case.image(word) for word in data.channels} | {word: case.mask(word) for word in data.targets}
    common = os.path.commonpath([path.parent for path in paths.values()])
    return {word: [os.path.relpath(path, common), *nifti.identity(path)] for word, path in paths.items()}


def fingerprint_of(recipe: dict[str, Any], cases: Iterable[Case], sources: dict[str, Any]) -> str:
    named = [
        [case.study, case.patient, sources[case.study], *([] if case.layout == recipe["layout"] else [case.layout])]
        for case in cases
    ]
    text = json.dumps([FORMAT, recipe, named], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
