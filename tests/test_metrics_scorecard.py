"""The row of a study and what many rows come to."""

import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from jaxstroke.metrics import overlap, scorecard, statistics, strata, surface

ISLES_2022 = Path(__file__).parents[2] / "shared" / "data" / "isles2022"

ONE_EMPTY = {"hd95_mm", "average_surface_distance_mm", "segmentation_quality"}
NO_LESION = {"undetected", "missed_lesion_rate", "slice_sensitivity"}


def test_a_study_by_hand():
    reference, prediction = np.zeros((4, 6, 10), bool), np.zeros((4, 6, 10), bool)
    reference[1, 1:3, 1:3] = reference[2, 4, 8] = True  # two lesions, 4 + 1 voxels
    prediction[1, 1:3, 2:4] = prediction[3, 0, 0] = True  # half of the first, and a stray voxel
    row = scorecard.score(prediction, reference, (5.0, 1.0, 2.0))
    strip = {name: row[name] for name in row if "_mm" not in name}
    assert strip == pytest.approx(
        {
            "dice": 4 / 10,
            "precision": 2 / 5,
            "recall": 2 / 5,
            "f1": 2 / 5,
            "kappa": (1 - 6 / 240 - (25 + 235**2) / 240**2) / (1 - (25 + 235**2) / 240**2),
            "surface_dice": 8 / 10,  # all of the first lesion lies within 2 mm, the second and the stray voxel do not
            "volume_ml": 0.05,
            "reference_volume_ml": 0.05,
            "volume_difference_ml": 0.0,
            "lesions": 2,
            "reference_lesions": 2,
            "lesion_count_difference": 0,
            "lesion_f1": 2 / (2 + 1 + 1),
            "missed_lesions": 1,
            "missed_lesion_rate": 1 / 2,
            "panoptic_quality": 0,  # 2 voxels of 6 are no half
            "recognition_quality": 0,
            "slice_sensitivity": 1 / 2,
            "slice_specificity": 1 / 2,
            "slice_precision": 1 / 2,
            "false_positive_regions": 1,
            "undetected": 0,
            "slice_dice_empty_1": (1 + 0.5 + 0 + 0) / 4,
            "slice_dice_empty_0": (0 + 0.5 + 0 + 0) / 4,
            "segmentation_quality": math.nan,
        },
        nan_ok=True,
    )
    # Surfaces, all five voxels of each.  From the reference 0, 0, 2, 2 mm and, from (2, 4, 8) to (1, 2, 3), 11.36 mm.
    far = math.sqrt(5**2 + 2**2 + 10**2)
    assert row["hd95_mm"] == pytest.approx(max(2 + 0.8 * (far - 2), 2 + 0.8 * (math.hypot(10, 1, 2) - 2)))


def test_a_row_holds_exactly_the_columns_in_their_order():
    row = scorecard.score(np.ones((1, 2, 2)), np.ones((1, 2, 2)), (1.0, 1.0, 1.0))
    assert list(row) == [name for name in scorecard.COLUMNS if name not in scorecard.PROBABILITY_SCORES]
    assert all(type(value) is float for value in row.values())


@pytest.mark.parametrize(
    "predicted, expected, undefined",
    [
        (0, 0, {"precision", "recall", "f1", "kappa", "slice_precision", *NO_LESION}),
        (0, 1, {"precision", "f1", "slice_specificity", "slice_precision", *ONE_EMPTY}),
        (1, 0, {"recall", "f1", *NO_LESION, *ONE_EMPTY}),
        (1, 1, {"kappa", "slice_specificity"}),
    ],
)
def test_what_is_undefined_when_masks_are_empty(predicted, expected, undefined):
    row = scorecard.score(np.full((2, 3, 4), predicted), np.full((2, 3, 4), expected), (5.0, 1.0, 1.0))
    assert {name for name, value in row.items() if math.isnan(value)} == undefined


def test_undetected_is_a_lesion_that_nothing_touches():
    reference, prediction = np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    reference[0, 0, 0] = prediction[1, 2, 3] = True
    assert scorecard.score(prediction, reference, (1.0, 1.0, 1.0))["undetected"] == 1.0
    assert scorecard.score(reference, reference, (1.0, 1.0, 1.0))["undetected"] == 0.0


def test_summary_by_hand_counts_what_is_undefined():
    rows = [{"study": "a", "dice": 0.2}, {"study": "b", "dice": 0.4}, {"study": "c", "dice": 0.9}]
    rows += [{"study": "d", "dice": math.nan}, {"study": "e"}]
    ((name, summary),) = scorecard.summarise(rows).items()
    assert name == "dice"
    assert (summary.mean, summary.median, summary.n, summary.undefined) == (pytest.approx(0.5), 0.4, 3, 2)
    assert summary.sd == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2))
    assert 0.2 <= summary.low < 0.5 < summary.high <= 0.9


def test_summary_of_one_or_no_value_has_no_spread():
    one = scorecard.summarise([{"recall": 0.25}])["recall"]
    assert (one.mean, one.median, one.n, one.undefined) == (0.25, 0.25, 1, 0)
    none = scorecard.summarise([{"recall": math.nan}])["recall"]
    assert (none.n, none.undefined) == (0, 1)
    assert all(math.isnan(value) for value in (one.sd, one.low, one.high, none.mean, none.median))
    assert scorecard.summarise([]) == {}


def test_summaries_are_the_same_every_time_and_do_not_depend_on_the_other_columns():
    rng = np.random.default_rng(5)
    rows = [{"dice": float(rng.random()), "hd95_mm": float(rng.random())} for _ in range(40)]
    alone = scorecard.summarise([{"hd95_mm": row["hd95_mm"]} for row in rows])
    assert scorecard.summarise(rows)["hd95_mm"] == alone["hd95_mm"]


@pytest.mark.parametrize(
    "volume, stratum",
    [(0.0, "no lesion"), (0.04, "< 10 mL"), (9.999, "< 10 mL")]
    + [(10.0, "10-50 mL"), (50.0, "10-50 mL"), (50.1, "> 50 mL")],
)
def test_strata(volume, stratum):
    assert strata.volume_stratum(volume) == stratum


def test_rows_by_stratum():
    rows = [{"reference_volume_ml": volume} for volume in (60.0, 0.0, 3.0, 70.0)]
    grouped = strata.by_volume(rows)
    assert {word: len(members) for word, members in grouped.items()} == {"< 10 mL": 1, "> 50 mL": 2, "no lesion": 1}


def test_columns_print_undefined_as_such():
    assert scorecard.COLUMNS["hd95_mm"].heading == "HD95 (mm)"
    assert scorecard.COLUMNS["hd95_mm"].text(8.25) == "8.2"
    assert scorecard.COLUMNS["dice"].text(math.nan) == "undefined"


@pytest.mark.skipif(not ISLES_2022.is_dir(), reason=f"no ISLES 2022 cases at {ISLES_2022}")
def test_a_real_case_against_formulas_written_out():
    """The mask "DWI above the 99th percentile of its positive voxels" on case 1, scored a second way."""
    study = ISLES_2022 / "sub-strokecase0001" / "ses-0001" / "dwi" / "sub-strokecase0001_ses-0001_dwi.nii.gz"
    mask = next((ISLES_2022 / "derivatives" / "sub-strokecase0001").rglob("*_msk.nii.gz"))
    dwi, reference = nibabel.load(study).get_fdata(), nibabel.load(mask).get_fdata() > 0
    prediction = dwi > np.percentile(dwi[dwi > 0], 99)
    spacing = tuple(float(edge) for edge in nibabel.load(mask).header.get_zooms())
    row = scorecard.score(prediction, reference, spacing)
    cube = np.ones((3, 3, 3))
    expected, r = ndimage.label(reference, cube)
    predicted, p = ndimage.label(prediction, cube)
    tp = len(set(expected[prediction]) - {0})
    fp = p - len(set(predicted[reference]) - {0})
    there = ndimage.distance_transform_edt(~surface.surface_voxels(reference), spacing)
    back = ndimage.distance_transform_edt(~surface.surface_voxels(prediction), spacing)
    directed = there[surface.surface_voxels(prediction)], back[surface.surface_voxels(reference)]
    assert row["dice"] == pytest.approx(2 * (prediction & reference).sum() / (prediction.sum() + reference.sum()))
    assert row["lesion_count_difference"] == abs(p - r)
    assert row["lesion_f1"] == pytest.approx(tp / (tp + (fp + r - tp) / 2))
    assert row["hd95_mm"] == pytest.approx(max(np.percentile(each, 95) for each in directed), rel=1e-5)
    assert row["reference_volume_ml"] == pytest.approx(overlap.volume_ml(reference, spacing))
    assert statistics.cohens_kappa(prediction, reference) < row["dice"]
