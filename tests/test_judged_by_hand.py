"""Validation, evaluation and the maps between stages, with answers that are known: what is judged against what."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import above_half
from small_studies import head, isles2022_root, lesion, save

from jaxstroke import sharding
from jaxstroke.data.cache.building import build_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.layouts import folder as own_folder
from jaxstroke.data.splits import Split
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.inference import evaluation
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.judging import tables
from jaxstroke.runs.folder import RunFolder
from jaxstroke.training import cascade, program
from jaxstroke.training.validation import Validation

SIZE = 32


def experiment(**changes: object) -> Experiment:
    small = {"data.size": SIZE, "data.batch": 4, **changes}
    return overrides.override(catalogue.load("unet_isles22", scale="small"), small)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Three studies on a grid that preparation leaves as it is: lesions of 4 and 8 pixels' side, and none."""
    root = tmp_path_factory.mktemp("judged")
    masks = [lesion((3, SIZE, SIZE), {0: (10, 10)}, side=4), lesion((2, SIZE, SIZE), {0: (9, 9), 1: (9, 9)}, side=8)]
    masks.append(np.zeros((1, SIZE, SIZE), np.uint8))
    return build_cache(isles2022_root(root / "data", masks), experiment().data, root / "cache")


class Shown:
    """A predictor that answers with a study's own mask, its upper half missing, as a probability of 0.6."""

    def __init__(self, cache: Cache) -> None:
        self._answers = {cache.array(s.study, "images").tobytes(): cache.array(s.study, "masks") for s in cache.studies}

    def replace_weights(self, weights: Any) -> None:
        del weights

    def prepared(self, images: np.ndarray) -> Answer:
        mask = np.array(self._answers[images.tobytes()], np.float32)
        for plane in mask[..., 0]:
            rows = np.flatnonzero(plane.any(axis=1))
            plane[rows[: len(rows) // 2]] = 0
        return Answer(0.6 * mask + 0.1, {})


class State:
    def variables(self) -> dict:
        return {}


# --- validation ------------------------------------------------------------------------------------------------------


def validation(cache: Cache, studies: tuple[str, ...], losses: Any, **changes: object) -> Validation:
    built = program.build(experiment(**changes), sharding.make_mesh(), steps_per_epoch=1)
    made = Validation(dataclasses.replace(built, validate=losses), cache, studies)
    made._predictor = Shown(cache)  # type: ignore[assignment]
    return made


def test_validation_has_the_values_that_a_hand_finds(cache: Cache) -> None:
    """Half of each lesion found: Dice 2 x 1/2 / (1 + 1/2) = 2/3 in two studies, 1 in the empty one.

    Of six slices three hold lesion: with 0 for an empty slice (3 x 2/3) / 6, with 1 (2 + 3) / 6.
    """
    seen = []

    def losses(state: Any, batch: dict[str, Any]) -> dict[str, float]:
        seen.append(int(batch["valid"].sum()))
        return {"loss": [1.0, 4.0][len(seen) - 1], "count": float(seen[-1])}

    studies = tuple(study.study for study in cache.studies)
    figures = validation(cache, studies, losses).run(State())  # type: ignore[arg-type]
    assert figures is not None and seen == [4, 2]
    assert figures["validation_loss"] == pytest.approx((4 * 1.0 + 2 * 4.0) / 6)
    assert figures["dice"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert figures["slice_dice_empty_0"] == pytest.approx(2 / 6)
    assert figures["slice_dice_empty_1"] == pytest.approx(5 / 6)
    # A quarter of the first lesion's voxels lie 2 pixels of 2 mm off, an eighth of the second's 4; both empty is 0.
    assert figures["hd95_mm"] == pytest.approx((4 + 8 + 0) / 3)
    higher = validation(cache, studies, lambda *_: {"loss": 0.0, "count": 1.0}, **{"evaluation.threshold": 0.75})
    assert higher.run(State())["dice"] == pytest.approx(1 / 3), "nothing is found: 0, 0 and 1"  # type: ignore[index,arg-type]


def test_without_validation_studies_nothing_is_known_and_the_last_epoch_counts(cache: Cache) -> None:
    figures = validation(cache, (), None).run(State())  # type: ignore[arg-type]
    assert figures is not None and all(math.isnan(value) for value in figures.values())
    with pytest.raises(UserError, match=r"training\.patience_epochs=3: there is no validation study"):
        validation(cache, (), None, **{"training.patience_epochs": 3})
    for name in ("mdanet_isles18_all_train", "mdanet_isles22_all_train"):
        loaded = catalogue.load(name)
        assert (loaded.data.validation_fraction, loaded.evaluation.choose_by) == (0.0, "last")


# --- evaluation ------------------------------------------------------------------------------------------------------


def two_readings(root: Path) -> list:
    """A study of which ADC and DWI were annotated in different places: 4 x 4 and 8 x 8 pixels."""
    shape = (2, 40, 36)
    for word, mask in (("adc", lesion(shape, {0: (10, 10)}, side=4)), ("dwi", lesion(shape, {1: (20, 12)}, side=8))):
        save(root / f"{word}.nii.gz", np.moveaxis(head(shape) + (head(shape) != 0), 0, -1))
        save(root / f"{word}_mask.nii.gz", np.moveaxis(mask, 0, -1).astype(np.uint8))
    (root / "studies.csv").write_text(
        "study,patient,DWI,ADC,mask:ADC/R1,mask:DWI/R1\na,p,dwi.nii.gz,adc.nii.gz,adc_mask.nii.gz,dwi_mask.nii.gz\n"
    )
    return own_folder.find(root)


def test_each_answer_is_judged_against_its_own_annotation(tmp_path: Path) -> None:
    """ADC is answered rightly; for DWI half of the lesion is found: Dice 1 and 2/3, and no other pair fits."""

    def answer(study: Any) -> Answer:
        adc, dwi = (study.masks[word].astype(np.float32) for word in ("ADC/R1", "DWI/R1"))
        half = dwi.copy()
        rows = np.flatnonzero(dwi.any(axis=(0, 2)))
        half[:, rows[: len(rows) // 2]] = 0
        return Answer(np.stack([adc, half], axis=-1), {})

    system = System("known", "known", ("ADC", "DWI"), answer, above_half, graded=False)
    rows = evaluation.evaluate(
        [system],
        two_readings(tmp_path),
        images=("ADC", "DWI"),
        targets=("ADC/R1", "DWI/R1"),
        advance=lambda *_, **__: None,
    )
    found = {row["target"]: row for row in rows}
    assert found["ADC/R1"]["dice"] == pytest.approx(1) and found["DWI/R1"]["dice"] == pytest.approx(2 / 3)
    assert found["DWI/R1"]["recall"] == pytest.approx(1 / 2) and found["DWI/R1"]["precision"] == pytest.approx(1)
    voxel_ml = 1e-3  # of 1 mm
    assert found["ADC/R1"]["reference_volume_ml"] == pytest.approx(16 * voxel_ml)
    assert found["DWI/R1"]["volume_ml"] == pytest.approx(32 * voxel_ml)
    assert found["ADC/R1"]["slice_dice_empty_0"] == pytest.approx(1 / 2)
    assert found["ADC/R1"]["slice_dice_empty_1"] == pytest.approx(1)


def test_both_rules_for_empty_slices_and_patients_whose_slabs_are_pooled_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slabs of 16 and 64 pixels, the first missed, the second found: Dice 2 x 64 / (80 + 64) of the patient."""
    cases = two_readings(tmp_path)
    system = System("known", "", ("ADC",), lambda study: found_in_dwi(study), above_half, graded=False)
    rows = [
        {**row, "patient": "p", "target": "lesion", "study": row["target"]}
        for row in evaluation.evaluate(
            [system], cases, images=("ADC", "DWI"), targets=("ADC/R1", "DWI/R1"), advance=lambda *_, **__: None
        )
    ]
    tables.systems(evaluation.summaries(rows), "t", also=tables.SLICES_SHOWN)
    tables.strata(rows)
    told = capsys.readouterr().out
    assert "empty = 1" in told and "empty = 0" in told and "the slabs of a patient pooled" in told
    (line,) = [line for line in told.splitlines() if "all patients" in line]
    assert f"{2 * 64 / (80 + 64):.3f}" in line


def found_in_dwi(study: Any) -> Answer:
    dwi = study.masks["DWI/R1"].astype(np.float32)
    return Answer(np.stack([0 * dwi, dwi], axis=-1), {})


# --- the maps between the stages -------------------------------------------------------------------------------------


class Numbered:
    """A first-stage network whose map is its own number everywhere."""

    def __init__(self, number: int) -> None:
        self._number = number

    def prepared(self, images: np.ndarray) -> Answer:
        shape = images.shape[:3]
        return Answer(np.zeros((*shape, 1)), {"synthetic": np.full(shape, self._number, np.float32)})


def test_no_map_of_a_training_study_comes_from_a_network_that_saw_it(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (study.study for study in cache.studies)
    splits = [Split(train=(two,), validation=(three,), test=(one,)), Split((one,), (three,), (two,))]
    whole = experiment(**{"data.derived": ("synthetic",), "cascade.stage1_networks": 2})
    run = RunFolder(tmp_path / "run")
    numbers = {stage.path: number for number, stage in enumerate(cascade.stage1_folders(run.path, whole), start=1)}
    made = classmethod(lambda cls, stage, **_: Numbered(numbers[stage.path]))
    monkeypatch.setattr(cascade.Predictor, "of_run", made)
    derived = cascade.with_synthetic_maps(whole, cache, splits, run, tmp_path / "derived")
    told = {study.study: set(derived.array(study.study, "images")[..., -1].ravel()) for study in derived.studies}
    assert told == {one: {1.0}, two: {2.0}, three: {1.5}}
