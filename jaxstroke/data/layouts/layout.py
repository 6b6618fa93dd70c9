"""What there is to know of a data set's files: one `Layout` each."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from jaxstroke.data.case import Case
from jaxstroke.errors import UserError

Calibration = Callable[[np.ndarray], np.ndarray]


def _no_fixed_test(root: Path) -> frozenset[str]:
    return frozenset()


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a data set lies on disk and how its files are to be read.

    Attributes:
      name, title, source: the word, the name in prose, and where the data can be had.
      expects: what is looked for, in words, for messages.
      modalities, targets: the words of its images and masks.
      find: every study of a folder; a `UserError` that says what was looked for where there is none.
      study: the one study of a study's own folder; None where the folder holds none.
      prediction_name: file name of a prediction for a study.
      units: unit of each modality after `calibrate`.
      calibrate: by modality, file values to those units.
      windows: by modality, the (low, high) that the normalisation `window` maps to 0 and 1, in those units; a modality
        without a physical unit has none.
      hounsfield: modalities in Hounsfield units, whose background is not 0.
      affine_from_zooms: the files' affines are known to be meaningless; voxel sizes alone are used and the stored
        order of the voxels is kept.
      own_grid: modalities that lie on a grid of their own in this data set, and need registration.
      same_scan: modalities on a grid of their own whose coordinates can be trusted, as they come from the same scan.
      fixed_test: studies that the publisher set aside for testing.
    """

    name: str
    title: str
    source: str
    expects: str
    modalities: tuple[str, ...]
    targets: tuple[str, ...]
    find: Callable[[Path], list[Case]]
    study: Callable[[Path], Case | None]
    prediction_name: Callable[[Case], str]
    units: Mapping[str, str]
    calibrate: Mapping[str, Calibration] = dataclasses.field(default_factory=dict)
    windows: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    hounsfield: tuple[str, ...] = ()
    affine_from_zooms: bool = False
    own_grid: tuple[str, ...] = ()
    same_scan: tuple[str, ...] = ()
    fixed_test: Callable[[Path], frozenset[str]] = _no_fixed_test

    @property
    def lays_test_down(self) -> bool:
        """Whether its data sets can name studies for testing; its phantom then does."""
        return self.fixed_test is not _no_fixed_test

    def recognises(self, root: Path) -> bool:
        """Whether the folder holds studies in this layout."""
        try:
            return bool(self.find(root))
        except UserError:
            return False


def found(cases: Iterable[Case | None], root: Path, *, title: str, expects: str, source: str) -> list[Case]:
    """Returns the studies that were found, or says what was looked for and where the data can be had."""
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; {title} is looked for there. Get it from {source}")
    studies = [case for case in cases if case is not None]
    if not any(case.images for case in studies):
        raise UserError(f"{root}: no study of {title} was found there; looked for {expects}. Get it from {source}")
    names = [case.study for case in studies]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{root}: the study {twice} is there twice; keep one of the two")
    return studies


def folders(root: Path, pattern: str) -> list[Path]:
    """The folders that bear such a name, also those that cannot be entered: whoever asks for them must be told."""
    return sorted(path for path in root.glob(pattern) if path.is_dir() or fault_of(path))


def fault_of(folder: Path) -> str:
    """Why a folder holds nothing that can be read: it cannot be listed, or there is nothing in it; else empty."""
    try:
        names = os.listdir(folder)
    except NotADirectoryError:
        return ""
    except OSError as error:
        return f"{folder}: it cannot be read: {error.strerror or error}"
    return "" if names else f"{folder}: there is nothing in it; get the study anew or remove its folder"
