"""Validation, evaluation and the maps between stages, with answers that are known: what is judged against what."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_runs import above_half
from small_studies import head, isles2022_root, lesion, save

from jaxstroke import evaluate, files, sharding
from jaxstroke.data.cache.building import build_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.layouts import folder as own_folder
from jaxstroke.data.splits import Split
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.inference import cascade as in_use
from jaxstroke.inference import evaluation
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.judging import tables
from jaxstroke.runs.folder import RunFolder
from jaxstroke.training import cascade, program
from jaxstroke.training.loop import Progress
from jaxstroke.training.validation import CHOICES, Validation

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


def test_the_first_of_equal_scores_stays_the_best() -> None:
    progress = Progress()
    for step, score in ((10, 0.5), (20, 0.7), (30, 0.7), (40, math.nan), (50, 0.6)):
        progress.judge(step, dict.fromkeys(CHOICES, score))
    assert progress.best_steps == dict.fromkeys(CHOICES, 20) and progress.best_scores["dice"] == 0.7


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
    again = [{**row, "study": "b", "dice": 0.0, "recall": math.nan} for row in rows]
    lines = {line["target"]: line["scores"] for line in evaluation.summaries([*rows, *again])}
    assert [lines[target]["dice"].mean for target in ("ADC/R1", "DWI/R1")] == pytest.approx([1 / 2, 1 / 3])
    assert (lines["DWI/R1"]["recall"].n, lines["DWI/R1"]["recall"].undefined) == (1, 1)


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


def test_the_strata_of_patients_are_written_for_programs(tmp_path: Path) -> None:
    """The same slabs beside one of another patient, half of whose 64 pixels are found: Dice 2/3.

    By slab: 0, 1 and 2/3, each with one lesion.  By patient: 8/9 with two lesions, of which one is missed, and 2/3.
    """
    slabs = [("a", "p", 16, 0, 0.0, 1), ("b", "p", 64, 64, 1.0, 0), ("c", "q", 64, 32, 2 / 3, 0)]
    rows = [
        {"study": study, "patient": patient, "target": "lesion", "system": "known", "rules": "isles22", "dice": dice,
         "volume_ml": found / 1000, "reference_volume_ml": drawn / 1000, "reference_lesions": 1.0,
         "lesions": 1.0 - missed, "missed_lesions": float(missed), "false_positive_regions": 0.0}
        for study, patient, drawn, found, dice, missed in slabs
    ]  # fmt: skip
    studies: Any = SimpleNamespace(words="studies", source=SimpleNamespace(phantom=True, root=tmp_path))
    made: dict = {"runs": []}
    evaluate._write(tmp_path, "test", rows, {}, studies, made)
    written = json.loads((tmp_path / "evaluation" / "test" / "summary.json").read_text())
    by_slab, by_patient = written["strata"]["known"], written["strata_by_patient"]["known"]
    assert by_slab["volume"]["< 10 mL"]["n"] == 3 and by_slab["lesions"].keys() == {"1 lesion"}
    assert by_slab["volume"]["< 10 mL"]["mean"]["dice"] == pytest.approx((0 + 1 + 2 / 3) / 3)
    assert {word: one["n"] for word, one in by_patient["lesions"].items()} == {"1 lesion": 1, "2-3 lesions": 1}
    assert by_patient["volume"]["< 10 mL"]["mean"]["dice"] == pytest.approx((8 / 9 + 2 / 3) / 2)
    two = by_patient["lesions"]["2-3 lesions"]["mean"]
    assert (two["recall"], two["precision"]) == (pytest.approx(64 / 80), pytest.approx(1))
    assert (two["missed_lesion_rate"], two["reference_volume_ml"]) == (pytest.approx(1 / 2), pytest.approx(0.08))
    evaluate._write(tmp_path, "test", [{**row, "patient": row["study"]} for row in rows], {}, studies, made)
    alone = json.loads((tmp_path / "evaluation" / "test" / "summary.json").read_text())
    assert alone["strata_by_patient"] == {}, "no two studies share a patient"


def found_in_dwi(study: Any) -> Answer:
    dwi = study.masks["DWI/R1"].astype(np.float32)
    return Answer(np.stack([0 * dwi, dwi], axis=-1), {})


# --- the maps between the stages -------------------------------------------------------------------------------------


class OneRow:
    """A first-stage network whose map is 1 in one row of each slice."""

    def __init__(self, row: int) -> None:
        self._row = row

    def prepared(self, images: np.ndarray) -> Answer:
        shown = np.zeros(images.shape[:3], np.float32)
        shown[:, self._row] = 1
        return Answer(np.zeros((*shown.shape, 1)), {"synthetic": shown})


@pytest.fixture
def two_networks(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Experiment, RunFolder, list[Split]]:
    """The first maps study 1 and marks row 12, where study 2 has its lesion; the second row 20, where 1 has none."""
    one, two, three = (study.study for study in cache.studies)
    splits = [Split(train=(two,), validation=(three,), test=(one,)), Split((one,), (three,), (two,))]
    whole = experiment(**{"data.derived": ("synthetic",), "cascade.stage1_networks": 2})
    run = RunFolder(tmp_path / "run")
    stages = cascade.stage1_folders(run.path, whole)
    rows = {stage.path: row for stage, row in zip(stages, (12, 20), strict=True)}
    made = classmethod(lambda cls, stage, **_: OneRow(rows[stage.path]))
    monkeypatch.setattr(cascade.Predictor, "of_run", made)
    return whole, run, splits


def standardised(values: np.ndarray, head: np.ndarray) -> np.ndarray:
    return np.where(head, (values - values[head].mean()) / values[head].std(), 0)


def test_no_map_of_a_training_study_comes_from_a_network_that_saw_it(
    cache: Cache, tmp_path: Path, two_networks: tuple[Experiment, RunFolder, list[Split]]
) -> None:
    """The second network shows lesion dark, so its map is turned; outside training both have their say."""
    whole, run, splits = two_networks
    derived = cascade.with_synthetic_maps(whole, cache, splits, run, tmp_path / "derived")
    for number, study in enumerate(derived.studies):
        images = derived.array(study.study, "images")
        head = (images[..., :-1] != 0).any(axis=-1)
        marked = [np.zeros(head.shape), np.zeros(head.shape)]
        marked[0][:, 12] = marked[1][:, 20] = 1
        first, second = standardised(marked[0], head), -standardised(marked[1], head)
        expected = [first, second, standardised((first + second) / 2, head)][number]
        np.testing.assert_allclose(images[..., -1], expected, atol=2e-2)  # the cache keeps half precision


def test_which_way_round_a_map_is_is_asked_once_and_kept(
    cache: Cache, tmp_path: Path, two_networks: tuple[Experiment, RunFolder, list[Split]]
) -> None:
    whole, run, splits = two_networks
    first, second = cascade.stage1_folders(run.path, whole)
    with pytest.raises(UserError, match=r"stage1-0: it holds no polarity.json.* --fresh"):
        in_use.recorded_sign(first)
    cascade.with_synthetic_maps(whole, cache, splits, run, tmp_path / "derived")
    assert (in_use.recorded_sign(first), in_use.recorded_sign(second)) == (1, -1)
    study = cache.studies[0].study  # the second was trained on it: its row is no lesion
    images, lesion = cache.array(study, "images"), cache.array(study, "masks")[..., 0] > 0
    head = (images != 0).any(axis=-1)
    told = files.read_sealed(second.path / in_use.POLARITY)
    assert told["lesion_minus_rest"] == pytest.approx(-head[:, 20].sum() / (head & ~lesion).sum())
    files.write_sealed(second.path / in_use.POLARITY, {**told, "sign": 1})
    cascade.with_synthetic_maps(whole, cache, splits, run, tmp_path / "derived")
    assert in_use.recorded_sign(second) == 1, "what is kept of these weights counts"
    files.write_sealed(second.path / in_use.POLARITY, {**told, "sign": 1, "checkpoints": "others"})
    cascade.with_synthetic_maps(whole, cache, splits, run, tmp_path / "derived")
    assert in_use.recorded_sign(second) == -1
    files.write_sealed(second.path / in_use.POLARITY, {"sign": "dark"})
    with pytest.raises(UserError, match=r"polarity.json: it is damaged \(sign is 'dark'"):
        in_use.recorded_sign(second)
    (second.path / in_use.POLARITY).unlink()
    (run.path / "checkpoints" / "step-00000007").mkdir(parents=True)
    (run.path / "checkpoints" / "step-00000007" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="an earlier version trained it on maps as they came"):
        cascade.with_synthetic_maps(whole, cache, splits, run, tmp_path / "derived")
