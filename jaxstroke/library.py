"""jaxstroke from a script or a notebook: `import jaxstroke`, then `load`, `study`, `score`; nothing needs a file.

network = jaxstroke.load("runs/dme_isles18")
prediction = network.predict("data/TRAINING/case_1")
prediction.mask, prediction.probability, prediction.volume_ml
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout, study_from_folder
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.study import Grid, Study
from jaxstroke.errors import UserError
from jaxstroke.files.nifti import Header
from jaxstroke.inference import members, system
from jaxstroke.inference.doubts import Interval, each_lesion
from jaxstroke.metrics import overlap, scorecard
from jaxstroke.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of a study, by target, on the study's own grid (slice, row, column).

    Attributes:
      masks: uint8, 0 or 1, by the run's rule (`Trained.rule` says it).
      probabilities: float32, 0 to 1.
      volumes_ml: the volume of each mask.
      intervals: for each volume, as the run was calibrated; None where it was not, or on too few studies.
      unlike: why the study is unlike those trained on, a line each; what it does not say is in docs/predict.md.
      spread: by target, the standard deviation over runs and mirrored copies; empty where there is one pass alone.
      lesions: by target, a row for each lesion: volume_ml, probability, and with several passes agreement.
      maps: what was asked for with `load(..., intermediates=...)`, by path.
      study: the study that was predicted.
    """

    masks: Mapping[str, np.ndarray]
    probabilities: Mapping[str, np.ndarray]
    volumes_ml: Mapping[str, float]
    intervals: Mapping[str, Interval | None]
    unlike: tuple[str, ...]
    spread: Mapping[str, np.ndarray]
    lesions: Mapping[str, list[dict[str, float]]]
    maps: Mapping[str, np.ndarray]
    study: Study

    @property
    def mask(self) -> np.ndarray:
        """Of the first target, which most networks have alone."""
        return next(iter(self.masks.values()))

    @property
    def probability(self) -> np.ndarray:
        return next(iter(self.probabilities.values()))

    @property
    def volume_ml(self) -> float:
        return next(iter(self.volumes_ml.values()))


class Trained:
    """A trained run, or several as one, compiled at their first study; `predict` as many studies as there are."""

    def __init__(
        self, runs: Sequence[RunFolder], *, intermediates: Sequence[str] = (), mirrored: bool | None = None
    ) -> None:
        self._system, self.experiment = system.trained(runs, intermediates=intermediates, mirrored=mirrored)
        self.trained_on_phantom: bool = any(run.about()["phantom"] for run in runs)

    @property
    def rule(self) -> str:
        """How probabilities become a mask, in words, and who says so."""
        return self._system.rule

    @property
    def images(self) -> tuple[str, ...]:
        """The images that a study must have: "DWI", "ADC", ..."""
        return self._system.needs

    @property
    def targets(self) -> tuple[str, ...]:
        return self.experiment.data.targets

    def predict(
        self,
        study: str | os.PathLike[str] | Study | Mapping[str, ArrayLike],
        spacing_mm: Sequence[float] | None = None,
    ) -> Prediction:
        """Segments a study: its folder, what `jaxstroke.study` made, or its images by name with their spacing."""
        found = self._study(study, spacing_mm)
        missing = [word for word in self.images if word not in found.images]
        if missing:
            raise found.case.without("image", missing[0], found.images)
        answer = self._system.answer(found)
        probabilities = {word: answer.probabilities[..., index] for index, word in enumerate(self.targets)}
        mask = self._system.mask
        masks = {word: mask(values, found.spacing_mm).astype(np.uint8) for word, values in probabilities.items()}
        volumes = {word: overlap.volume_ml(mask, found.spacing_mm) for word, mask in masks.items()}
        votes = {word: None if answer.votes is None else answer.votes[..., n] for n, word in enumerate(self.targets)}
        return Prediction(
            masks,
            probabilities,
            volumes,
            intervals={word: self._system.doubts.interval(word, volume) for word, volume in volumes.items()},
            unlike=tuple(self._system.doubts.unlike(answer)),
            spread={} if answer.spread is None else {w: answer.spread[..., n] for n, w in enumerate(self.targets)},
            lesions={
                word: each_lesion(masks[word], probabilities[word], votes[word], found.spacing_mm)
                for word in self.targets
            },
            maps=answer.maps,
            study=found,
        )

    def _study(
        self, given: str | os.PathLike[str] | Study | Mapping[str, ArrayLike], spacing_mm: Sequence[float] | None
    ) -> Study:
        layout = self.experiment.data.layout
        if isinstance(given, Mapping):
            if spacing_mm is None:
                raise UserError("spacing_mm is missing: give (slice, row, column) in mm with arrays")
            return study(given, spacing_mm, layout=layout)
        if spacing_mm is not None:
            raise UserError("spacing_mm: it goes with arrays; a study knows its own")
        if isinstance(given, Study):
            return given
        case = study_from_folder(Path(given), find_layout(layout))
        return read_with(self.experiment.data.preparation, case, self.images)


def load(
    run: str | os.PathLike[str],
    *more: str | os.PathLike[str],
    intermediates: Sequence[str] = (),
    mirrored: bool | None = None,
) -> Trained:
    """The network of a run folder with its best weights; of several, or a cross-validation's folder, their mean.

    `mirrored` adds mirrored copies, as `jaxstroke predict --mirror` does; where it is not given, as the run was
    calibrated. `intermediates` names what the network looks at that is wanted too, as `--intermediates` does.
    """
    runs = members.runs_of([Path(one) for one in (run, *more)])
    return Trained(runs, intermediates=intermediates, mirrored=mirrored)


def score(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Every score of two masks (slice, row, column) by name, as `jaxstroke evaluate` gives them; NaN is undefined."""
    return scorecard.score(prediction, reference, spacing_mm)


def study(
    images: Mapping[str, ArrayLike],
    spacing_mm: Sequence[float],
    *,
    layout: str,
    masks: Mapping[str, ArrayLike] | None = None,
    name: str = "study",
    patient: str = "",
) -> Study:
    """A study without files: images and masks by name, (slice, row, column), in the units of the layout.

    Slices go from foot to head, rows from front to back, columns from the patient's right to the left.  `layout` is the
    data set whose units and windows hold ("isles2018", "isles2022", "two_reader"); CTP is (time, slice, row, column).
    """
    spacing = _spacing(spacing_mm)
    find_layout(layout)
    if not images:
        raise UserError("images: there is none; give at least one by name, such as DWI")
    arrays = {word: _array(word, values, 4 if word == "CTP" else 3) for word, values in images.items()}
    drawn = {word: _mask(word, values) for word, values in (masks or {}).items()}
    shapes = {word: array.shape[-3:] for word, array in (*arrays.items(), *drawn.items())}
    first = next(iter(shapes))
    for word, shape in shapes.items():
        if shape != shapes[first]:
            raise UserError(f"{word}: its shape is {shape}, that of {first} {shapes[first]}; bring them to one grid")
    nowhere = {word: Path(word) for word in arrays}, {word: Path(word) for word in drawn}
    case = Case(name, patient or name, *nowhere, layout)
    return Study(case, arrays, drawn, spacing, _grid(shapes[first], spacing))


def _grid(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> Grid:
    """As a NIfTI file of these arrays would lie: columns to the left, rows to the back, slices to the head."""
    depth, row, column = spacing
    affine = np.diag([-column, -row, depth, 1.0])
    raw = nib.Nifti1Image(np.zeros(shape[::-1], np.uint8), affine).header
    header = Header(Path("arrays"), shape[::-1], affine, (column, row, depth), (None, None), 0, raw)
    return Grid(header, np.array([[2, 1], [1, 1], [0, 1]]))


def _spacing(values: Sequence[float]) -> tuple[float, float, float]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(0 < value < np.inf for value in numbers):
        raise UserError(f"spacing_mm={tuple(values)}: it must be three positive numbers, (slice, row, column) in mm")
    return numbers


def _array(word: str, values: ArrayLike, axes: int) -> np.ndarray:
    array = np.asarray(values, np.float32)
    if array.ndim != axes or not array.size:
        wanted = "(time, slice, row, column)" if axes == 4 else "(slice, row, column)"
        raise UserError(f"{word}: its shape is {array.shape}; it must be {wanted}")
    if not np.isfinite(array).all():
        raise UserError(f"{word}: it holds values that are not finite; set them to what surrounds the head")
    return array


def _mask(word: str, values: ArrayLike) -> np.ndarray:
    array = _array(word, values, 3)
    if array.min() < 0 or (array != np.rint(array)).any():
        raise UserError(f"{word}: it is not a mask of whole labels; threshold it first")
    return (array > 0).astype(np.uint8)
