"""Whether a study is unlike those that a run was trained on, by a few figures of it, each with the range seen there.

    spacing           slice, row and column, in mm
    head              the volume of the head in the field of view, in mL
    IMAGE size        the median of its magnitude in the head, in the units of the layout, before normalisation
    IMAGE missing     1 where the study does not have it, else 0
    IMAGE 5 %, 50 %, 95 %   percentiles of its values in the head, after normalisation
    IMAGE roughness   the median difference of neighbours in a row, after normalisation: noise, or blur
    disagreement      of runs and mirrored copies: 1 - the mean share of them that marks a voxel which any of them marks

A figure is unlike where it lies outside the range of the training and validation studies, widened on both sides by
half its length, a twentieth of its values, or .01, whichever is most.  Normalisation takes units and gain away on
purpose, so an image's size is looked at before it: it is unlike below a third of the least, or above three times the
most.  A unit that is mistaken is off by 10 or more, and the gain of a scanner that no training study came from may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from jaxstroke.data.layouts import find_layout
from jaxstroke.data.prepare import Prepared, head_of
from jaxstroke.data.study import Study
from jaxstroke.experiment import Data
from jaxstroke.metrics.overlap import voxel_ml

DISAGREEMENT = "disagreement"
Figures = Mapping[str, float]
Ranges = Mapping[str, tuple[float, float]]
_WIDEN = 0.5
_RELATIVE = 0.05
_ABSOLUTE = 0.01
_SIZE = " size"  # the end of such a figure's name
_SIZE_FACTOR = 3.0
_SPACING = ("slice spacing (mm)", "row spacing (mm)", "column spacing (mm)")


def figures_of(study: Study, prepared: Prepared, data: Data) -> dict[str, float]:
    """All but the disagreement."""
    found: dict[str, float] = dict(zip(_SPACING, study.spacing_mm, strict=True))
    found |= {f"{word} missing": float(word in study.missing) for word in data.channels}
    found |= _sizes(study)
    head = (prepared.images != 0).any(axis=-1)
    found["head (mL)"] = float(np.count_nonzero(head)) * voxel_ml(prepared.spacing_mm)
    if not head.any():
        return found
    several = data.kind.holds_times  # time points of one image
    words = ["/".join(data.channels)] if several else list(data.channels)
    inside = head[:, :, 1:] & head[:, :, :-1]
    for index, word in enumerate(words):
        values = prepared.images.mean(axis=-1) if several else prepared.images[..., index]
        for percent, value in zip((5, 50, 95), np.percentile(values[head], (5, 50, 95)), strict=True):
            found[f"{word} {percent} %"] = float(value)
        steps = np.abs(np.diff(values, axis=2))[inside]
        found[f"{word} roughness"] = float(np.median(steps)) if steps.size else 0.0
    return found


def _sizes(study: Study) -> dict[str, float]:
    planes = {word: image if image.ndim == 3 else image.mean(axis=0) for word, image in study.images.items()}
    head = head_of(planes, find_layout(study.case.layout))
    return {f"{word}{_SIZE}": float(np.median(np.abs(image[head]))) for word, image in planes.items() if head.any()}


def disagreement(votes: np.ndarray) -> float:
    """Of the share of passes that mark each voxel; 0 where none marks any.

    >>> disagreement(np.array([0.0, 0.5, 1.0]))
    0.25
    """
    marked = votes[votes > 0]
    return float(1 - marked.mean()) if marked.size else 0.0


def ranges(studies: Iterable[Figures]) -> dict[str, tuple[float, float]]:
    """The least and the most of each figure."""
    found: dict[str, tuple[float, float]] = {}
    for figures in studies:
        for name, value in figures.items():
            low, high = found.get(name, (value, value))
            found[name] = min(low, value), max(high, value)
    return found


def reasons(figures: Figures, seen: Ranges) -> list[str]:
    """Why a study is unlike, a line each; nothing where it is not."""
    told = []
    for name, value in figures.items():
        if name not in seen:
            continue
        low, high = seen[name]
        least, most = _widened(name, low, high)
        if not least <= value <= most:
            units = " (wrong units?)" if name.endswith(_SIZE) else ""
            told.append(f"{name} is {value:.3g}; {low:.3g} to {high:.3g} in training{units}")
    return told


def _widened(name: str, low: float, high: float) -> tuple[float, float]:
    if name.endswith(_SIZE):
        return low / _SIZE_FACTOR, high * _SIZE_FACTOR
    margin = max(_WIDEN * (high - low), _RELATIVE * max(abs(low), abs(high)), _ABSOLUTE)
    return low - margin, high + margin
