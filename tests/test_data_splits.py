"""Splits: no patient on two sides, no study lost, the same every time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstroke.data.splits import split
from jaxstroke.errors import UserError
from jaxstroke.experiment.catalogue import load
from jaxstroke.phantoms import two_reader

# Patients by their number of studies.
COHORTS = st.lists(st.integers(1, 4), min_size=7, max_size=40).map(
    lambda sizes: {f"case_{p}_{s}": f"patient_{p}" for p, size in enumerate(sizes) for s in range(size)}
)


@given(cohort=COHORTS, folds=st.integers(2, 5), fraction=st.floats(0, 0.9), seed=st.integers(0, 1000))
def test_every_study_is_in_one_set_and_every_patient_too(
    cohort: dict[str, str], folds: int, fraction: float, seed: int
) -> None:
    tested: list[str] = []
    for fold in range(folds):
        parts = split(cohort, folds=folds, fold=fold, validation_fraction=fraction, seed=seed)
        assert sorted((*parts.train, *parts.validation, *parts.test)) == sorted(cohort)
        patients = [{cohort[study] for study in part} for part in (parts.train, parts.validation, parts.test)]
        assert not patients[0] & patients[1] and not patients[0] & patients[2] and not patients[1] & patients[2]
        assert parts.train and parts.test and bool(parts.validation) == (fraction > 0)
        tested += parts.test
    assert sorted(tested) == sorted(cohort), "every study is tested in exactly one fold"


@given(cohort=COHORTS, folds=st.integers(2, 5), seed=st.integers(0, 1000))
def test_folds_differ_by_at_most_one_patients_studies(cohort: dict[str, str], folds: int, seed: int) -> None:
    sizes = [
        len(split(cohort, folds=folds, fold=fold, validation_fraction=0.2, seed=seed).test) for fold in range(folds)
    ]
    assert max(sizes) - min(sizes) <= max(list(cohort.values()).count(patient) for patient in cohort.values())


@pytest.mark.parametrize("fold", [0, 1])
def test_a_patient_of_four_studies_weighs_as_much_as_four_of_one(fold: int) -> None:
    cohort = {f"case_{number}": f"p{max(0, number - 3)}" for number in range(8)}
    assert len(split(cohort, folds=2, fold=fold, validation_fraction=0.0, seed=3).test) == 4


@given(cohort=COHORTS, seed=st.integers(0, 1000), order=st.randoms())
def test_the_order_of_the_studies_does_not_matter(cohort: dict[str, str], seed: int, order) -> None:
    studies = list(cohort)
    order.shuffle(studies)
    shuffled = {study: cohort[study] for study in studies}
    arguments = {"folds": 3, "fold": 1, "validation_fraction": 0.25, "seed": seed}
    assert split(cohort, **arguments) == split(shuffled, **arguments)


def test_the_seed_matters_and_the_numbers_are_these() -> None:
    cohort = {f"case_{number}": f"p{number}" for number in range(10)}
    arguments = {"folds": 5, "fold": 0, "validation_fraction": 0.25}
    first, other = (split(cohort, seed=seed, **arguments) for seed in (0, 1))
    assert first != other
    assert (len(first.train), len(first.validation), len(first.test)) == (6, 2, 2)
    # A change here changes the test sets of everybody's runs.
    assert first.test == ("case_4", "case_5")


def test_a_test_set_that_is_laid_down_is_kept() -> None:
    cohort = {f"case_{number}": f"p{number // 2}" for number in range(12)}
    arguments = {"folds": 5, "validation_fraction": 0.3, "seed": 0, "fixed_test": {"case_0", "case_1"}}
    parts = [split(cohort, fold=fold, **arguments) for fold in range(5)]
    assert all(part.test == ("case_0", "case_1") for part in parts)
    assert len({part.validation for part in parts}) > 1
    with pytest.raises(UserError, match="study case_1: its patient p0"):
        split(cohort, folds=5, fold=0, validation_fraction=0.3, seed=0, fixed_test={"case_0"})


@pytest.mark.parametrize(
    ("patients", "changes", "message"),
    [
        (3, {"folds": 5}, "only 3 patients"),
        (2, {"folds": 2}, "2 patients are too few"),
        (9, {"fold": 5}, "data.fold=5, data.folds=5"),
        (9, {"folds": 1}, "at least 2 folds"),
        (9, {"validation_fraction": 1.0}, "below 1"),
    ],
)
def test_what_cannot_be_split_is_said(patients: int, changes: dict, message: str) -> None:
    cohort = {f"case_{number}": f"p{number}" for number in range(patients)}
    with pytest.raises(UserError, match=message):
        split(cohort, **{"folds": 5, "fold": 0, "validation_fraction": 0.2, "seed": 0, **changes})


def test_the_cross_domain_experiments_split_is_the_papers() -> None:
    data = load("crossdomain_v1").data
    studies = {two_reader.identity(index)[0]: two_reader.identity(index)[1] for index in range(data.phantom_cases)}
    tested = [two_reader.identity(index)[0] for index in range(data.phantom_cases) if two_reader.is_test(index)]
    arguments = {"folds": data.folds, "fold": 0, "validation_fraction": data.validation_fraction}
    found = split(studies, **arguments, seed=0, fixed_test=tested)
    assert (len(found.train), len(found.validation), len(found.test)) == (40, 11, 31)
