"""Training, validation and test studies: folds of patients, the same at every run with the same seed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from jaxstroke.errors import UserError
from jaxstroke.experiment import Data


@dataclasses.dataclass(frozen=True)
class Split:
    """Names of studies; each study is in exactly one of the three, and so is each patient."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def only(self, studies: Collection[str]) -> Split:
        """The same without the studies that could not be prepared: all others stay where they were."""
        parts = (self.train, self.validation, self.test)
        kept = Split(*(tuple(study for study in part if study in studies) for part in parts))
        if not kept.train:
            raise UserError("no study that could be prepared remains to train on")
        return kept


def split(
    patients_by_study: Mapping[str, str],
    *,
    folds: int,
    fold: int,
    validation_fraction: float,
    seed: int,
    fixed_test: Collection[str] = (),
    centres_by_study: Mapping[str, str] | None = None,
) -> Split:
    """Splits studies by patient.

    Patients are shuffled by `seed` and dealt, those with most studies first, to the fold that has fewest studies so
    far: sizes of folds differ by at most one patient's studies, and every study is tested in exactly one fold.  The
    result depends on names and numbers alone, not on the order of the mapping.

    Args:
      patients_by_study: patient of each study.
      folds, fold: number of folds (2 or more), and the one that is the test set, from 0.
      validation_fraction: of the remaining patients, rounded, but at least one when above 0.
      seed: of the shuffle.
      fixed_test: studies that the publisher set aside; they are the test set then, and `folds` and `fold` only vary
        which patients validate.
      centres_by_study: centre of each study; the folds are then of whole centres, as a model meets them elsewhere.
    """
    if not 0 <= validation_fraction < 1:
        raise UserError(f"data.validation_fraction={validation_fraction}: it must be at least 0 and below 1")
    if folds < 2 or not 0 <= fold < folds:
        raise UserError(f"data.fold={fold}, data.folds={folds}: at least 2 folds are needed, numbered from 0")
    patients = sorted(set(patients_by_study.values()))
    if fixed_test:
        tested = _fixed(patients_by_study, fixed_test)
    elif centres_by_study is not None:
        tested = _of_centres(patients_by_study, centres_by_study, folds, fold, seed)
    else:
        tested = deal(patients_by_study, folds, seed=seed)[fold]
    remaining = [patient for patient in patients if patient not in tested]
    needed = 2 if validation_fraction else 1
    if len(remaining) < needed:
        raise UserError(
            f"{len(patients)} patients are too few: {len(remaining)} remain for training and validation "
            f"beside fold {fold} of {folds}, and {needed} are needed; use more studies or fewer folds"
        )
    validating = _validating(remaining, validation_fraction, seed, fold)
    parts = {patient: "test" for patient in tested} | {patient: "validation" for patient in validating}
    chosen: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for study in sorted(patients_by_study):
        chosen[parts.get(patients_by_study[study], "train")].append(study)
    return Split(tuple(chosen["train"]), tuple(chosen["validation"]), tuple(chosen["test"]))


def most_folds(patients_by_study: Mapping[str, str], data: Data, *, fixed_test: Collection[str] = ()) -> int:
    """The number of folds of an experiment, or as near below it as these patients allow; 0 where they are too few."""
    for folds in range(data.folds, 1, -1):
        with contextlib.suppress(UserError):
            split(
                patients_by_study,
                folds=folds,
                fold=0,
                validation_fraction=data.validation_fraction,
                seed=0,
                fixed_test=fixed_test,
            )
            return folds
    return 0


def deal(patients_by_study: Mapping[str, str], folds: int, *, seed: int, what: str = "patients") -> list[set[str]]:
    """Deals patients to folds with about equally many studies; the same for the same names and seed."""
    patients = sorted(set(patients_by_study.values()))
    if len(patients) < folds:
        raise UserError(
            f"{folds} folds: there are only {len(patients)} {what}; use more studies or fewer folds, "
            f"such as --set data.folds={max(2, len(patients))}"
        )
    studies = {patient: 0 for patient in patients}
    for patient in patients_by_study.values():
        studies[patient] += 1
    shuffled = [patients[index] for index in np.random.default_rng(seed).permutation(len(patients))]
    held: list[list[str]] = [[] for _ in range(folds)]
    counts = [0] * folds
    for patient in sorted(shuffled, key=lambda patient: -studies[patient]):  # stable: equals stay shuffled
        smallest = min(range(folds), key=lambda index: (counts[index], len(held[index])))
        held[smallest].append(patient)
        counts[smallest] += studies[patient]
    return [set(members) for members in held]


def _of_centres(
    patients_by_study: Mapping[str, str], centres_by_study: Mapping[str, str], folds: int, fold: int, seed: int
) -> set[str]:
    """The patients of the fold's centres, also those who were seen elsewhere too."""
    nowhere = sorted(study for study in patients_by_study if not centres_by_study.get(study))
    if nowhere:
        raise UserError(
            f"data.split_by=centre: study {nowhere[0]} has no centre; the data set must tell it, or centres.csv "
            "(study,centre) in its folder"
        )
    centres = {study: centres_by_study[study] for study in patients_by_study}
    chosen = deal(centres, folds, seed=seed, what="centres")[fold]
    return {patients_by_study[study] for study, centre in centres.items() if centre in chosen}


def _fixed(patients_by_study: Mapping[str, str], fixed_test: Collection[str]) -> set[str]:
    tested = {patient for study, patient in patients_by_study.items() if study in fixed_test}
    for study, patient in sorted(patients_by_study.items()):
        if patient in tested and study not in fixed_test:
            raise UserError(f"study {study}: its patient {patient} also has a study in the test set that is laid down")
    return tested


def _validating(remaining: list[str], fraction: float, seed: int, fold: int) -> set[str]:
    if not fraction:
        return set()
    count = min(max(1, round(fraction * len(remaining))), len(remaining) - 1)
    order = np.random.default_rng([seed, fold, 1]).permutation(len(remaining))
    return {remaining[index] for index in order[:count]}
