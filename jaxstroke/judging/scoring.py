"""Scores of masks in files: each pair is read onto one grid, and what does not lie on it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import binary, check_dimensions, difference, grid_of, read_turned
from jaxstroke.errors import UserError
from jaxstroke.files import nifti
from jaxstroke.judging.pairs import Pair
from jaxstroke.metrics import scorecard
from jaxstroke.metrics.probability import Reliability
from jaxstroke.metrics.rules import Rules

_PLAIN = "isles2022"  # of files that belong to no data set the affine is believed, as it is there


def score(pair: Pair, rules: Rules) -> tuple[dict[str, Any], Reliability | None]:
    """A row of a pair, and the curve of calibration where it has probabilities."""
    layout = pair.layout or find_layout(_PLAIN)
    reference = nifti.read_header(pair.reference)
    grid = grid_of(reference, layout)

    def read(path: Path) -> tuple[np.ndarray, Path]:
        header = nifti.read_header(path)
        check_dimensions(header, "it", is_mask=True)
        what = difference(reference, header, layout)
        if what:
            raise UserError(f"{path}: it does not lie on the grid of {pair.reference} ({what}); bring it there first")
        return read_turned(header, grid), path

    expected = binary(*read(pair.reference)) == 1
    predicted = binary(*read(pair.prediction)) == 1
    row = {
        "case": pair.case,
        "study": pair.case,
        "patient": pair.patient,
        "rules": rules.name,
        **({"quality": pair.quality} if pair.quality else {}),
        **scorecard.score(predicted, expected, grid.spacing_mm, rules=rules),
    }
    if pair.probabilities is None:
        return row, None
    within = None if pair.within is None else binary(*read(pair.within)) == 1
    values = read(pair.probabilities)[0]
    if values.min() < 0 or values.max() > 1:
        raise UserError(
            f"{pair.probabilities}: its values lie between {values.min():g} and {values.max():g}; "
            "probabilities lie between 0 and 1"
        )
    more, found = scorecard.score_probabilities(values, expected, within=within, rules=rules)
    return {**row, **more}, found.reliability
