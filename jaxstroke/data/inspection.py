"""Every fault of a data set, found without training on it: what no program can read rightly, and what is only odd.

Each file is read once, by as many threads as there are cores (unpacking and arithmetic run outside Python's lock).
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from jaxstroke.data.case import Case
from jaxstroke.data.layouts import Layout, adc_units, find_layout
from jaxstroke.data.preparation.reading import read_with
from jaxstroke.data.prepare import head_of
from jaxstroke.data.study import Grid, check_dimensions, difference, grid_of, oddities, read_turned
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data
from jaxstroke.files import nifti
from jaxstroke.process import cores

# The median of the positive voxels of a head lies in here whatever the scanner, by unit; wide, to be never wrong.
_PLAUSIBLE = {"1e-6 mm2/s": (300.0, 2500.0), "HU": (-100.0, 300.0), "s": (0.01, 60.0)}
_USUAL_ORIENTATIONS = ("LAS", "RAS", "LPS", "RPS")
# A mask's rim may touch the background; more of it there is a mask of another head or another grid.
_OUTSIDE_SHARE = 0.01
_LABEL_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Problem:
    """Attributes: case, its name ("" for the whole data set); file; kind, a word; message; error, or a warning."""

    case: str
    file: str
    kind: str
    message: str
    error: bool = True

    def as_json(self) -> dict[str, str]:
        return {"case": self.case, "file": self.file, "kind": self.kind, "message": self.message}


@dataclasses.dataclass
class Inspected:
    """What is known of a study after its files were read."""

    case: Case
    problems: list[Problem] = dataclasses.field(default_factory=list)
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    bytes_read: int = 0
    adc_unit: str | None = None
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    prepared: tuple[str, ...] = ()  # what the experiment's preparation did

    def error(self, file: Path | str, kind: str, message: object) -> None:
        text = str(message).removeprefix(f"{file}: ")
        self.problems.append(Problem(self.case.study, str(file), kind, text))

    def warn(self, file: Path | str, kind: str, message: str) -> None:
        self.problems.append(Problem(self.case.study, str(file), kind, message, error=False))

    def as_json(self) -> dict[str, Any]:
        return {
            "case": self.case.study,
            "patient": self.case.patient,
            "images": {word: str(path) for word, path in self.case.images.items()},
            "masks": {word: str(path) for word, path in self.case.masks.items()},
            "shape": list(self.shape),
            "spacing_mm": list(self.spacing_mm),
            "errors": sum(problem.error for problem in self.problems),
            "warnings": sum(not problem.error for problem in self.problems),
            **({"preparation": list(self.prepared)} if self.prepared else {}),
        }


@dataclasses.dataclass(frozen=True)
class Report:
    """All studies in their order, and what stands between them; `seconds` is what reading took."""

    studies: tuple[Inspected, ...]
    between: tuple[Problem, ...]
    seconds: float

    @property
    def problems(self) -> list[Problem]:
        return [*(problem for study in self.studies for problem in study.problems), *self.between]

    @property
    def bytes_read(self) -> int:
        return sum(study.bytes_read for study in self.studies)

    def as_json(self) -> dict[str, Any]:
        return {
            "cases": [study.as_json() for study in self.studies],
            "errors": [problem.as_json() for problem in self.problems if problem.error],
            "warnings": [problem.as_json() for problem in self.problems if not problem.error],
        }


def inspect(
    cases: Sequence[Case], advance: Callable[..., None] = lambda steps, note: None, data: Data | None = None
) -> Report:
    """Reads every file of every study; `advance(1, note=study)` is called after each.

    Where `data` is given, a study without an error is also prepared as it says, and what that did is told.
    """
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(min(cores.usable(), 8)) as pool:
        running = {pool.submit(inspect_case, case, data): case for case in cases}
        for done in concurrent.futures.as_completed(running):
            done.result()
            advance(1, note=running[done].study)
    studies = tuple(future.result() for future in running)
    return Report(studies, tuple(_between(studies)), time.monotonic() - begun)


def inspect_case(case: Case, data: Data | None = None) -> Inspected:
    found = Inspected(case)
    registered = tuple(data.preparation.register) if data else ()
    for word, line in case.untold.items():
        found.warn("", "series", line if word else f"not used: {line}")
    if case.fault or not case.images:
        file, _, message = (case.fault or f"{case.study}: it has no image").partition(": ")
        found.error(file, "unreadable", message)
        return found
    layout = find_layout(case.layout)
    headers = _headers(found, layout, registered)
    if not headers:
        return found
    grid = grid_of(next(iter(headers.values())), layout)
    found.shape, found.spacing_mm = grid.header.shape, tuple(round(size, 4) for size in grid.header.spacing_mm)
    _orientation(found, grid, layout)
    planes = _images(found, headers, grid, layout)
    _masks(found, headers, grid, head_of(planes, layout) if planes else None)
    if data and data.preparation.any and not any(problem.error for problem in found.problems):
        _prepare(found, data)
    return found


def _prepare(found: Inspected, data: Data) -> None:
    try:
        found.prepared = read_with(data.preparation, found.case, data.channels).prepared
    except UserError as error:
        found.error("", "preparation", error)


# --- one study -------------------------------------------------------------------------------------------------------


def _headers(found: Inspected, layout: Layout, registered: Sequence[str]) -> dict[str, nifti.Header]:
    """The headers of the files that lie on the study's grid, which is the one most of them share."""
    headers = dict(_readable(found, layout))
    elsewhere = (*layout.own_grid, *layout.same_scan, *registered)
    together = {word: header for word, header in headers.items() if word not in elsewhere} or headers
    alone = [word for word in headers if word not in together]

    def companions(word: str) -> tuple[int, int]:
        fitting = sum(difference(together[word], other, layout) is None for other in together.values())
        order = [*layout.modalities, *found.case.images, *found.case.masks]
        return fitting, -order.index(word)

    if not together:
        return {}
    first = together[max(together, key=companions)]
    for word in alone:
        _read_alone(found, headers[word], word, layout)
    for word, header in list(together.items()):
        differs = difference(first, header, layout)
        if differs:
            del together[word]
            kind = "shape" if differs.startswith("shapes") else "geometry"
            text = f"it does not lie on the grid of {first.path.name} ({differs}); register it first"
            found.error(header.path, kind, text)
    return together


def _readable(found: Inspected, layout: Layout) -> Iterator[tuple[str, nifti.Header]]:
    for word, path in (*found.case.images.items(), *found.case.masks.items()):
        try:
            header = nifti.read_header(path)
            check_dimensions(header, word, is_mask=word in found.case.masks)
        except UserError as error:
            found.error(path, "dimensions" if isinstance(error, nifti.WrongDimensions) else "unreadable", error)
            continue
        contradiction = None if layout.affine_from_zooms else header.disagreement()
        if contradiction:
            found.error(path, "geometry", f"{contradiction}; set the header right")
        else:
            yield word, header


def _voxels(found: Inspected, header: nifti.Header, grid: Grid) -> np.ndarray | None:
    try:
        array = read_turned(header, grid)
    except UserError as error:
        found.error(header.path, "not_finite" if isinstance(error, nifti.NotFinite) else "unreadable", error)
        return None
    found.bytes_read += nifti.bytes_on_disk(header)
    return array


def _read_alone(found: Inspected, header: nifti.Header, word: str, layout: Layout) -> None:
    array = _voxels(found, header, grid_of(header, layout))
    if array is not None:
        _values(found, header.path, word, array)


def _images(found: Inspected, headers: dict[str, nifti.Header], grid: Grid, layout: Layout) -> dict[str, np.ndarray]:
    """Reads the images and says what is wrong with their values; returns them in the layout's units."""
    planes: dict[str, np.ndarray] = {}
    for word in (word for word in found.case.images if word in headers):
        header = headers[word]
        array = _voxels(found, header, grid)
        if array is None:
            continue
        _values(found, header.path, word, array)
        if array.any():
            found.digests[word] = hashlib.sha256(array.data).hexdigest()
        if word == "ADC":
            found.adc_unit = adc_units.unit_of(array)
        if array.ndim == 4:
            array = array.mean(axis=0)
        calibrate = layout.calibrate.get(word)
        planes[word] = calibrate(array) if calibrate else array
        _units(found, header.path, word, planes[word], layout)
    return planes


def _values(found: Inspected, path: Path, word: str, array: np.ndarray) -> None:
    for what in oddities(array):
        found.warn(path, "all_zero" if "everywhere" in what else "huge_values", f"{word} {what}")
    negative = int((array < 0).sum()) if word == "ADC" else 0
    if negative:
        found.warn(path, "negative_adc", f"{negative:,} voxels of ADC are below 0")


def _units(found: Inspected, path: Path, word: str, array: np.ndarray, layout: Layout) -> None:
    unit = layout.units.get(word, "")
    bounds = _PLAUSIBLE.get(unit)
    values = array[head_of({word: array}, layout)] if unit == "HU" else array[array > 0]
    if bounds is None or not values.size:
        return
    median = float(np.median(values))
    if not bounds[0] <= median <= bounds[1]:
        found.error(
            path, "units", f"the median of {word} is {median:.3g} {unit}, outside {bounds[0]:g} to {bounds[1]:g}"
        )


def _orientation(found: Inspected, grid: Grid, layout: Layout) -> None:
    if layout.affine_from_zooms:
        return
    codes = "".join(str(code) for code in nib.orientations.aff2axcodes(grid.affine))
    if codes not in _USUAL_ORIENTATIONS:
        found.warn(grid.header.path, "orientation", f"its voxels are stored {codes}, which is unusual; it is turned")


def _masks(found: Inspected, headers: dict[str, nifti.Header], grid: Grid, head: np.ndarray | None) -> None:
    for word in (word for word in found.case.masks if word in headers):
        path = headers[word].path
        values = _voxels(found, headers[word], grid)
        if values is None:
            continue
        labels = np.rint(values)
        near = np.abs(values - labels).max() <= _LABEL_TOLERANCE
        if not near or labels.min() < 0 or labels.max() > 1:
            some = ", ".join(f"{value:g}" for value in np.unique(values)[:6])
            found.error(path, "labels", f"its values are not 0 and 1 but {some} ...; threshold it or choose a label")
            continue
        drawn = labels > 0
        count = int(drawn.sum())
        if not count:
            found.warn(path, "empty_mask", "no voxel of it is lesion")
        elif head is not None and head.any():
            outside = int((drawn & ~head).sum())
            if outside > _OUTSIDE_SHARE * count:
                found.error(path, "mask_outside", f"{outside:,} of its {count:,} voxels lie outside the brain")


# --- between studies -------------------------------------------------------------------------------------------------


def _between(studies: Sequence[Inspected]) -> Iterator[Problem]:
    yield from _patients_twice(studies)
    yield from _mixed_units(studies)
    apart = [set(find_layout(study.case.layout).own_grid) & set(study.case.images) for study in studies]
    if any(apart):
        words, count = " and ".join(sorted(set().union(*apart))), sum(map(bool, apart))
        text = f"{words}: on a grid of its own in {count} of {len(studies)} studies; register it before use"
        yield Problem("", "", "own_grid", text, error=False)


def _patients_twice(studies: Sequence[Inspected]) -> Iterator[Problem]:
    """The same voxels under the names of two patients: one of them would be tested on what it was trained on."""
    seen: dict[tuple[str, str], Case] = {}
    told = set()
    for study in studies:
        for word, digest in study.digests.items():
            first = seen.setdefault((word, digest), study.case)
            if first.study != study.case.study and study.case.study not in told:
                told.add(study.case.study)
                text = f"its {word} is that of {first.study}, voxel by voxel: a patient is there twice; remove one"
                yield Problem(study.case.study, str(study.case.images[word]), "patient_twice", text)


def _mixed_units(studies: Sequence[Inspected]) -> Iterator[Problem]:
    counts = collections.Counter(study.adc_unit for study in studies if study.adc_unit)
    if len(counts) < 2:
        return
    usual, many = counts.most_common(1)[0]
    for study in studies:
        if study.adc_unit not in (None, usual):
            text = f"its ADC is in {study.adc_unit}, that of {many} of {sum(counts.values())} studies in {usual}"
            file = str(study.case.images["ADC"])
            yield Problem(study.case.study, file, "mixed_units", f"{text}; all are read in 1e-6 mm2/s", error=False)
