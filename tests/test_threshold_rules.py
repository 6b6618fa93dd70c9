"""The threshold rules on a hand-made brain with a known infarct."""

import numpy as np
import pytest

from jaxstroke.data import prepare
from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import Study
from jaxstroke.experiment import Data
from jaxstroke.inference import system
from jaxstroke.metrics import overlap
from jaxstroke.models import registry, threshold_rules

SPACING_MM = (5.0, 1.0, 1.0)
SHAPE = (3, 96, 96)


def ellipsoid(centre, radii, turned=0.0):
    """Voxels of SHAPE within an ellipse of each slice, turned about its centre by an angle in radians."""
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    y, x = y - centre[0], x - centre[1]
    y, x = y * np.cos(turned) + x * np.sin(turned), x * np.cos(turned) - y * np.sin(turned)
    return np.broadcast_to((y / radii[0]) ** 2 + (x / radii[1]) ** 2 <= 1, SHAPE)


BRAIN = ellipsoid((48, 48), (42, 34))
CORE = ellipsoid((48, 66), (9, 9))
AT_RISK = ellipsoid((48, 64), (16, 13))


def perfusion(noise=0.0):
    rng = np.random.default_rng(8)
    cbf = np.where(BRAIN, 50.0, 0.0)
    cbf[AT_RISK], cbf[CORE] = 25.0, 8.0
    tmax = np.where(BRAIN, 1.0, 0.0)
    tmax[AT_RISK], tmax[CORE] = 8.0, 10.0
    cbf, tmax = cbf + noise * 5 * rng.standard_normal(SHAPE), tmax + noise * 0.5 * rng.standard_normal(SHAPE)
    return {"CBF": (cbf * BRAIN).astype(np.float32), "Tmax": (tmax * BRAIN).astype(np.float32)}


def diffusion():
    rng = np.random.default_rng(9)
    dwi = np.where(BRAIN, 100 + 8 * rng.standard_normal(SHAPE), 0)
    adc = np.where(BRAIN, 830 + 40 * rng.standard_normal(SHAPE), 0)
    dwi[CORE], adc[CORE] = 180, 480
    return {"DWI": dwi.astype(np.float32), "ADC": adc.astype(np.float32)}


STUDIES = {
    "tmax_6s": (perfusion(noise=1.0), AT_RISK),
    "rcbf_30": (perfusion(noise=1.0), CORE),
    "adc_620": (diffusion(), CORE),
}


def predict(name, images, spacing_mm=SPACING_MM, head=BRAIN):
    score = registry.rules()[name].predict(images, head, spacing_mm)
    assert score.dtype == np.float32 and score.shape == next(iter(images.values())).shape
    assert score.min() >= 0 and score.max() <= 1
    return score > 0.5


@pytest.mark.parametrize("name", STUDIES)
def test_the_known_infarct_is_found(name):
    images, truth = STUDIES[name]
    assert set(registry.rules()[name].needs) == set(images)
    assert overlap.dice(predict(name, images), truth) > 0.9


@pytest.mark.parametrize("name", STUDIES)
def test_a_flipped_head_gives_the_flipped_mask(name):
    images, _ = STUDIES[name]
    flipped = {word: image[:, :, ::-1] for word, image in images.items()}
    there = predict(name, flipped, head=BRAIN[:, :, ::-1])
    np.testing.assert_array_equal(there, predict(name, images)[:, :, ::-1])


@pytest.mark.parametrize("factor", [0.1, 8.0, 1000.0])
def test_cbf_in_any_unit_gives_the_same_mask(factor):
    images, _ = STUDIES["rcbf_30"]
    for name in ("rcbf_30", "tmax_6s"):
        scaled = images | {"CBF": images["CBF"] * np.float32(factor)}
        assert overlap.dice(predict(name, scaled), predict(name, images)) > 0.999


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("head", [BRAIN, np.zeros(SHAPE, bool)], ids=["head", "no head"])
def test_no_signal_no_lesion(name, value, head):
    images = {word: np.full(SHAPE, value, np.float32) for word in registry.rules()[name].needs}
    assert not predict(name, images, head=head).any()


@pytest.mark.parametrize("name", STUDIES)
def test_a_healthy_brain_has_no_lesion(name):
    images = {
        word: np.where(BRAIN, value, 0).astype(np.float32)
        for word, value in {"CBF": 50, "Tmax": 1, "DWI": 100, "ADC": 830}.items()
    }
    assert not predict(name, images).any()


def test_ventricles_without_flow_are_no_core():
    images = perfusion()
    ventricles = ellipsoid((48, 40), (12, 4)) | ellipsoid((48, 52), (12, 4)) & ~AT_RISK
    images["CBF"][ventricles] = 3.0
    assert overlap.dice(predict("rcbf_30", images), CORE) > 0.9


def test_specks_are_dropped_below_one_millilitre():
    images = perfusion()
    images["Tmax"][1, 46:51, 20:25] = 20.0  # 25 voxels of 5 mm3: 0.125 mL
    assert overlap.dice(predict("tmax_6s", images), AT_RISK) > 0.9
    assert not predict("tmax_6s", images)[:, :, :30].any()


def test_a_core_with_no_flow_at_all_stays_within_the_brain():
    images = perfusion()
    images["CBF"][CORE] = 0.0
    assert overlap.dice(predict("rcbf_30", images), CORE) > 0.9


def test_the_edge_of_the_brain_is_not_dimmed_by_the_background():
    image = np.where(BRAIN, 50.0, 0.0).astype(np.float32)
    smoothed = threshold_rules.smooth(image, BRAIN, SPACING_MM)
    np.testing.assert_allclose(smoothed[BRAIN], 50.0, rtol=1e-5)
    assert not smoothed[~BRAIN].any()


@pytest.mark.parametrize("turned", [0.0, 0.2, -0.2])
def test_the_mid_plane_follows_a_turned_head(turned):
    brain = ellipsoid((48, 44), (42, 30), turned)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    first = threshold_rules.first_side(brain)
    assert first[brain].mean() == pytest.approx(0.5, abs=0.02)
    across = (x - 44) * np.cos(turned) - (y - 48) * np.sin(turned)
    truth = np.broadcast_to(across < 0, SHAPE)
    assert (first == truth)[brain].mean() > 0.93  # row midpoints of a turned ellipse lie a little off its axis


def test_the_healthy_side_has_the_shorter_tmax_or_else_the_higher_flow():
    images = perfusion()
    left = threshold_rules.healthy_side(images["CBF"], images["Tmax"], BRAIN)
    assert left[:, :, :40].any() and not left[:, :, 60:].any()
    level = np.where(BRAIN, 1.0, 0.0).astype(np.float32)
    np.testing.assert_array_equal(threshold_rules.healthy_side(images["CBF"], level, BRAIN), left)


def test_one_slice_is_enough():
    images = {word: image[:1] for word, image in perfusion().items()}
    assert overlap.dice(predict("rcbf_30", images, head=BRAIN[:1]), CORE[:1]) > 0.9


# --- as systems: with the head that preparation finds ---


def study_of(images, layout):
    case = Case("study_1", "patient_1", {}, {}, layout)
    return Study(case, images, {}, SPACING_MM, None)


def test_a_rule_looks_where_preparation_looks_and_not_at_the_air_around():
    """Data that are not skull-stripped: noise around the head in DWI, and ADC 0 there, which is below any threshold."""
    images, truth = STUDIES["adc_620"]
    air = np.random.default_rng(3).rayleigh(20, SHAPE)
    air[:, :, :3] = 300.0  # a bright artefact at the edge of the field of view
    images = {"DWI": np.where(BRAIN, images["DWI"] + air, air).astype(np.float32), "ADC": images["ADC"]}
    study = study_of(images, "two_reader")
    (rule,) = system.rules(("ADC", "DWI"), targets=2)
    answer = rule.answer(study).probabilities
    found = rule.mask(answer[..., 0], study.spacing_mm)
    assert answer.shape == (*SHAPE, 2) and not (found & ~BRAIN).any()
    assert overlap.dice(found, truth) > 0.9
    data = Data("two_reader", (("ADC",), ("DWI",)), size=96, spacing_mm=1.0)
    prepared = prepare.prepare(study, data)
    seen = prepare.restore((prepared.images != 0).any(axis=-1, keepdims=True), prepared.inverse)[..., 0] > 0
    np.testing.assert_array_equal(prepare.head_of(images, find_layout("two_reader")), BRAIN)
    assert (seen == BRAIN).mean() > 0.999, "and the network sees the same"


def test_flow_is_compared_with_tissue_and_not_with_the_fluid_within_the_head():
    """Half of the healthy side is fluid, where the software shows nothing: the mean must not sink by half."""
    images = perfusion()
    images["CBF"][ellipsoid((48, 30), (38, 12))] = 0.0
    images["CBF"][CORE] = 0.14 * 50
    assert overlap.dice(predict("rcbf_30", images), CORE) > 0.9
    images["CBF"][CORE] = 0.36 * 50
    assert not predict("rcbf_30", images).any()
