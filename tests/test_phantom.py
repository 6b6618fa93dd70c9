"""The phantom against its published tissue values, its physics, its files, and how hard it is."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from jaxstroke.phantoms import diffusion, isles2018, isles2022, lesions, perfusion, tissues, tomography, two_reader
from jaxstroke.phantoms.anatomy import Anatomy, Head
from jaxstroke.phantoms.fields import Field, centred

REAL = Path(__file__).parents[1] / ".." / "shared" / "data" / "isles2022"
WATERSHED = np.ones((3, 3, 3))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(one & other) / max(np.count_nonzero(one) + np.count_nonzero(other), 1)


def kappa(one: np.ndarray, other: np.ndarray) -> float:
    agreed = np.mean(one == other)
    chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return float((agreed - chance) / (1 - chance))


@pytest.fixture(scope="module")
def head() -> tuple[Head, Anatomy, float]:
    one = Head.draw(np.random.default_rng(4))
    grid = centred((10, 105, 90), (8.0, 2.0, 2.0), centre_mm=(0.0, 0.0, 12.0))
    return one, one.at(grid.positions()), grid.voxel_ml


# --- tissue values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tissue", "grade", "mtt_s"),
    [("GREY", "healthy", 3.7), ("GREY", "reduced", 11.3), ("GREY", "severe", 8.0),
     ("WHITE", "healthy", 4.6), ("WHITE", "reduced", 13.6), ("WHITE", "severe", 10.1)],
)  # fmt: skip
def test_the_central_volume_theorem_gives_the_published_transit_times(tissue, grade, mtt_s):
    assert getattr(tissues, tissue)[grade].mtt_s == pytest.approx(mtt_s, abs=0.1)


def test_an_infarct_darkens_from_2_to_19_hu():
    assert [tissues.ct_drop_hu(hours) for hours in (0.5, 2.0, 17.0, 32.0, 90.0)] == [2.0, 2.0, 10.5, 19.0, 19.0]


def test_flow_volume_and_delay_follow_the_table(head):
    _, anatomy, voxel_ml = head
    rng = np.random.default_rng(1)
    lesion = lesions.grow(rng, anatomy, voxel_ml, volume_ml=60.0, penumbra_ml=60.0, kind="branch", side=1)
    assert lesion is not None
    still = np.zeros_like(anatomy.grey)
    patient = perfusion.Circulation(
        1.0, 0, 0.0, core_ratio=0.10, penumbra_ratio=0.30, reperfused=0.0, old_infarct_ratio=0.2
    )
    flow = perfusion.state(anatomy, [lesion], still, still, patient)
    places = {
        "healthy": (anatomy.side == -1) & (lesion.oligemia < 0.01),
        "reduced": (lesion.penumbra > 0.98) & (lesion.core < 0.01),
        "severe": lesion.core > 0.98,
    }
    plain = (anatomy.white_matter_disease < 0.01) & (anatomy.vessel == 0)
    for fraction, table in ((anatomy.grey, tissues.GREY), (anatomy.white, tissues.WHITE)):
        for grade, place in places.items():
            here = place & plain & (fraction > 0.98)
            assert np.count_nonzero(here) > 20
            found = [float(np.median(values[here])) for values in (flow.cbf, flow.cbv, flow.delay_s, flow.mtt_s)]
            expected = table[grade]
            assert found == pytest.approx([expected.cbf, expected.cbv, expected.delay_s, expected.mtt_s], rel=0.06)


def test_patients_cores_and_penumbras_scatter_about_the_tables_ratios():
    rng = np.random.default_rng(0)
    drawn = [perfusion.Circulation.draw(rng, 1) for _ in range(400)]
    for found, grade in (("core_ratio", "severe"), ("penumbra_ratio", "reduced")):
        expected = np.mean([table[grade].cbf / table["healthy"].cbf for table in (tissues.GREY, tissues.WHITE)])
        assert np.mean([getattr(one, found) for one in drawn]) == pytest.approx(expected, abs=0.01)


def test_the_maps_show_the_ratios_that_the_literature_reads_off_maps():
    """CBF beside healthy tissue: core .19 +- .06, penumbra .34 where it dies and .46 where not; between lies 30 %."""
    grades = ("healthy", "reduced", "severe")
    values = [[getattr(table[grade], name) for grade in grades for table in (tissues.GREY, tissues.WHITE)]
              for name in ("cbf", "cbv", "delay_s")]  # fmt: skip
    flow = perfusion.State(*(np.repeat(np.float32(one), 40)[None, None] * np.ones((1, 80, 1), np.float32)
                             for one in values))  # fmt: skip
    package, rng = perfusion.Package.of(50, 8), np.random.default_rng(0)
    motion = perfusion.Motion(25, (0, 0), 0.0)
    noise_hu = 1.3 * tissues.FRAME_NOISE_HU
    found = perfusion.coefficients(rng, package, flow, np.zeros_like(flow.cbf), motion, noise_hu)
    cbf = perfusion.maps(package, found, np.ones(flow.cbf.shape, bool), smooth_pixels=1.5)["CBF"][0]
    means = cbf.reshape(80, 6, 40)[5:-5, :, 5:-5].mean(axis=(0, 2)).reshape(3, 2)  # grade, tissue
    healthy, reduced, severe = means.mean(axis=1)  # as much grey as white
    assert severe / healthy == pytest.approx(0.19, abs=0.06)
    assert reduced / healthy == pytest.approx(0.40, abs=0.07)


def test_ct_in_hounsfield_units(head):
    _, anatomy, _ = head
    none = np.zeros_like(anatomy.grey)
    core = np.where(anatomy.side == 1, np.float32(1), np.float32(0))
    hu = tomography.still(anatomy, core, none, none, hours=2.0)
    healthy = anatomy.side == -1
    for fraction, value in (
        (anatomy.grey, 35.0),
        (anatomy.white, 29.0),
        (anatomy.ventricle, 12.0),
        (anatomy.skull, 1000.0),
    ):
        pure = (fraction > 0.995) & (anatomy.vessel == 0) & (anatomy.white_matter_disease < 0.01)
        assert np.median(hu[healthy & pure]) == pytest.approx(value, abs=1.0)
    grey = anatomy.grey > 0.995
    assert np.median(hu[healthy & grey]) - np.median(hu[~healthy & grey]) == pytest.approx(2.0, abs=0.2)
    noisy = tomography.scanned(np.random.default_rng(0), hu, tissues.CT_TISSUE_SD)
    assert np.std((noisy - hu)[grey]) == pytest.approx(3.0, rel=0.1)
    assert noisy[0, 0, 0] == tissues.CT_BACKGROUND


def test_diffusion_ratios_of_core_and_rim(head):
    _, anatomy, _ = head
    none = np.zeros_like(anatomy.grey)
    acute = np.where(anatomy.positions[0] > 30, np.float32(1), np.float32(0))
    halo = np.where(anatomy.positions[0] > 0, np.float32(1), np.float32(0))
    stage = diffusion.Stage(tissues.ADC_RATIO["core"], tissues.DWI_RATIO["core"], 0.5)
    tissue = diffusion.contrast(anatomy, acute, halo, none, stage)
    dwi = tissue.t2 * np.exp(-tissue.adc)
    grey = anatomy.grey > 0.99
    healthy = grey & (anatomy.side == -1)
    for place, adc_ratio, dwi_ratio in ((acute > 0, 0.63, 1.84), ((halo > 0) & (acute == 0), 0.90, 1.13)):
        assert np.median(tissue.adc[grey & place]) / np.median(tissue.adc[healthy]) == pytest.approx(
            adc_ratio, abs=0.01
        )
        assert np.median(dwi[grey & place]) / np.median(dwi[healthy]) == pytest.approx(dwi_ratio, abs=0.03)
    assert np.median(tissue.adc[anatomy.ventricle > 0.99]) == pytest.approx(3.0, abs=0.05)


# --- anatomy and lesions -----------------------------------------------------------------------------------------


def test_tissue_fractions_fill_the_brain_and_no_more(head):
    _, anatomy, voxel_ml = head
    whole = anatomy.tissue + anatomy.ventricle + anatomy.sulcal_fluid
    deep = anatomy.brain_depth > 1.0
    assert np.abs(whole[deep] - 1.0).max() < 1e-3
    assert (
        min(float(part.min()) for part in (anatomy.grey, anatomy.white, anatomy.ventricle, anatomy.sulcal_fluid))
        > -1e-4
    )
    assert 700 < np.count_nonzero(anatomy.inside) * voxel_ml < 1600
    assert set(np.unique(anatomy.territory)) == {0, 1, 2, 3, 4}


def test_a_head_looks_the_same_on_another_grid(head):
    one, anatomy, _ = head
    coarse = centred((10, 53, 45), (8.0, 4.0, 4.0), centre_mm=(0.0, 0.0, 12.0))
    again = one.at(coarse.positions())
    assert np.mean(np.abs(again.ventricle - anatomy.ventricle[:, ::2, ::2])) < 0.005
    assert np.mean(again.territory == anatomy.territory[:, ::2, ::2]) > 0.97


def test_a_field_has_unit_variance_and_its_correlation_length():
    field = Field.draw(np.random.default_rng(0), 6.0)
    grid = centred((40, 60, 60), (2.0, 2.0, 2.0)).positions()
    values = field.at(grid)
    assert values.mean() == pytest.approx(0.0, abs=0.2)
    assert values.std() == pytest.approx(1.0, abs=0.25)
    apart = np.corrcoef(values[:, 3:].ravel(), values[:, :-3].ravel())[0, 1]
    assert apart == pytest.approx(np.exp(-((6.0 / 6.0) ** 2) / 4), abs=0.08)  # of white noise smoothed by sigma
    scattered = tuple(axis[::7, ::5, ::5].ravel() for axis in grid)
    assert np.abs(field.at(scattered) - values[::7, ::5, ::5].ravel()).mean() < 0.1


@pytest.mark.parametrize("kind", lesions.KINDS)
def test_a_lesion_has_its_volume_and_lies_inside_its_penumbra(head, kind):
    _, anatomy, voxel_ml = head
    rng = np.random.default_rng(3)
    lesion = lesions.grow(rng, anatomy, voxel_ml, volume_ml=20.0, penumbra_ml=30.0, kind=kind, side=-1)
    assert lesion is not None
    assert np.count_nonzero(lesion.drawn) * voxel_ml == pytest.approx(20.0, rel=0.02)
    assert np.count_nonzero(lesion.core > 0.5) * voxel_ml == pytest.approx(20.0, rel=0.02)
    assert np.all(lesion.penumbra >= lesion.core)
    assert np.count_nonzero(lesion.penumbra > 0.5) * voxel_ml == pytest.approx(50.0, rel=0.3)
    assert not np.any(lesion.drawn & (anatomy.side == 1))
    assert not np.any(lesion.drawn & ~anatomy.inside)


# --- perfusion physics -------------------------------------------------------------------------------------------


def uniform(cbf: float, cbv: float, delay_s: float, shape=(1, 24, 24)) -> perfusion.State:
    return perfusion.State(*(np.full(shape, value, np.float32) for value in (cbf, cbv, delay_s)))


def mapped(flow: perfusion.State, noise_hu: float = 0.0, frames: bool = False) -> dict[str, np.ndarray]:
    package, still = perfusion.Package.of(50, 8), np.full(flow.cbf.shape, 35.0, np.float32)
    make = perfusion.series if frames else perfusion.coefficients
    found = make(np.random.default_rng(0), package, flow, still, perfusion.Motion(20, (0, 0), 0.0), noise_hu)
    if frames:
        found = np.einsum("rt,tdhw->rdhw", package.project, found)
    return perfusion.maps(package, found, np.ones(flow.cbf.shape, bool), 1.5)


def test_the_arterial_input_peaks_where_and_as_high_as_published():
    seconds = np.arange(0, 40, 0.01)
    values = perfusion.arterial_input(seconds)
    assert values.max() == pytest.approx(400.0)
    assert seconds[values.argmax()] == pytest.approx(4.5, abs=0.02)  # alpha beta
    assert values[0] == 0


@pytest.mark.parametrize(("cbf", "cbv"), [(53.0, 3.3), (25.0, 1.9), (16.0, 3.0), (5.3, 0.71)])
def test_deconvolution_recovers_volume_and_tells_delay(cbf, cbv):
    at_once, late = mapped(uniform(cbf, cbv, 1.0)), mapped(uniform(cbf, cbv, 7.0))
    assert at_once["CBV"].mean() == pytest.approx(cbv, rel=0.08)
    assert 0.4 * cbf < at_once["CBF"].mean() < 1.05 * cbf  # truncation flattens the peak of short transits
    assert late["Tmax"].mean() - at_once["Tmax"].mean() == pytest.approx(6.0, abs=0.7)
    assert late["CBF"].mean() == pytest.approx(at_once["CBF"].mean(), rel=0.1)


def test_maps_drawn_directly_have_the_statistics_of_maps_from_frames():
    flow = uniform(40.0, 2.6, 2.0, (1, 96, 96))
    direct, frames = mapped(flow, 3.0), mapped(flow, 3.0, frames=True)
    for name in ("CBF", "CBV", "MTT", "Tmax"):
        assert direct[name].mean() == pytest.approx(frames[name].mean(), rel=0.02)
        assert direct[name].std() == pytest.approx(frames[name].std(), rel=0.15)


def test_motion_is_the_same_in_both_ways():
    rng, package = np.random.default_rng(5), perfusion.Package.of(50, 8)
    flow = perfusion.State(
        *(rng.uniform(low, high, (2, 20, 20)).astype(np.float32) for low, high in ((5, 60), (1, 4), (0, 8)))
    )
    still = rng.uniform(10, 200, (2, 20, 20)).astype(np.float32)
    motion = perfusion.Motion(17, (0, 1), 0.4)
    direct = perfusion.coefficients(rng, package, flow, still, motion, 0.0)
    frames = perfusion.series(rng, package, flow, still, motion, 0.0)
    projected = np.einsum("rt,tdhw->rdhw", package.project, frames)
    assert np.abs(direct - projected).max() < 2e-3 * np.abs(projected).max()


# --- magnetic resonance and readers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def public22() -> list[dict[str, np.ndarray]]:
    return [{name: image for name, (image, _) in isles2022.make_study(22, k).items()} for k in range(5)]


def in_table_units(adc: np.ndarray) -> np.ndarray:
    median = np.median(adc[adc != 0])
    return adc * (1e-3 if median > 50 else 1e3 if median < 0.05 else 1.0)


def diffusion_figures(dwi: np.ndarray, adc: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Medians in parenchyma and fluid, told apart by ADC."""
    brain, adc = dwi != 0, in_table_units(adc)
    parenchyma, fluid = brain & (adc > 0.4) & (adc < 1.3) & ~mask, brain & (adc > 2.4)
    middle = np.median(dwi[parenchyma])
    figures = {
        "parenchyma": np.median(adc[parenchyma]),
        "fluid": np.median(adc[fluid]),
        "fluid dwi": np.median(dwi[fluid]) / middle,
    }
    if mask.any():
        figures |= {"lesion": np.median(adc[mask]), "lesion dwi": np.median(dwi[mask]) / middle}
    return {name: float(value) for name, value in figures.items()}


@pytest.mark.slow
def test_isles2022_has_the_intensities_measured_on_the_public_set(public22):
    figures = [diffusion_figures(one["DWI"], one["ADC"], one["lesion"] > 0) for one in public22]
    median = {name: np.median([one[name] for one in figures if name in one]) for name in figures[0]}
    assert 0.74 < median["parenchyma"] < 0.90
    assert 2.7 < median["fluid"] < 3.2
    assert 0.26 < median["fluid dwi"] < 0.50
    assert 0.47 < median["lesion"] < 0.82
    assert 1.36 < median["lesion dwi"] < 2.05
    units = {round(float(np.log10(np.median(np.abs(one["ADC"][one["ADC"] != 0]))))) for one in public22}
    assert len(units) >= 2
    assert any((one["DWI"] < 0).any() for one in public22) and any((one["ADC"] < 0).any() for one in public22)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the four public ISLES 2022 cases beside the repository")
def test_isles2022_lies_near_real_cases(public22):
    real = []
    for case in ("0001", "0003"):
        stem = f"sub-strokecase{case}"
        folders = {"dwi": REAL / stem / "ses-0001/dwi", "adc": REAL / stem / "ses-0001/dwi"}
        folders["msk"] = REAL / "derivatives" / stem / "ses-0001"
        images = [nibabel.load(folder / f"{stem}_ses-0001_{word}.nii.gz") for word, folder in folders.items()]
        dwi, adc, mask = (np.asarray(image.dataobj) for image in images)  # pyright: ignore[reportAttributeAccessIssue]
        real.append(diffusion_figures(dwi, adc, mask > 0))
    ours = [diffusion_figures(one["DWI"], one["ADC"], one["lesion"] > 0) for one in public22]
    for name, margin in (("parenchyma", 0.12), ("fluid", 0.3), ("fluid dwi", 0.12)):
        low, high = min(one[name] for one in real) - margin, max(one[name] for one in real) + margin
        assert low < np.median([one[name] for one in ours]) < high


@pytest.mark.slow
def test_readers_disagree_as_much_as_published():
    found = []
    for index in [k for k in range(40) if two_reader.is_test(k) and not two_reader.is_control(k)][:8]:
        masks = {name: image > 0 for name, (image, _) in two_reader.make_study(5, index).items() if "_" in name}
        pairs = (("adc_r1", "adc_r2"), ("dwi_r1", "dwi_r2"), ("adc_r1", "dwi_r1"), ("adc_r2", "dwi_r2"))
        found.append([kappa(masks[one], masks[other]) for one, other in pairs])
    adc, dwi, first, second = np.mean(found, axis=0)
    assert adc == pytest.approx(0.65, abs=0.07)
    assert dwi == pytest.approx(0.70, abs=0.07)
    assert (first + second) / 2 == pytest.approx(0.65, abs=0.07)
    assert np.std(found, axis=0).min() > 0.03  # some studies are harder than others


# --- hard enough, and quick enough -------------------------------------------------------------------------------


def rules(study: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Dice of `Tmax > 6 s` and of `CBF below 30 % of the healthy side`, on maps smoothed by 2 mm in plane."""
    spacing = np.sqrt((study["CT"][1][:3, :3] ** 2).sum(axis=0))
    brain = study["CT_CBF"][0] > 0
    weight = ndimage.gaussian_filter(brain.astype(np.float32), (0, 2 / spacing[1], 2 / spacing[0])) + 1e-6

    def smooth(name: str) -> np.ndarray:
        values = np.where(brain, study[name][0], 0).astype(np.float32)
        return ndimage.gaussian_filter(values, (0, 2 / spacing[1], 2 / spacing[0])) / weight

    late, flow = brain & (smooth("CT_Tmax") > 6), smooth("CT_CBF")
    right = np.broadcast_to(np.arange(256) >= 128, brain.shape)
    healthy = ~right if np.count_nonzero(late & right) > np.count_nonzero(late & ~right) else right
    low = brain & (flow < 0.3 * flow[brain & healthy].mean())
    lesion = study["OT"][0] > 0
    return dice(_without_crumbs(late, spacing), lesion), dice(_without_crumbs(low, spacing), lesion)


def _without_crumbs(mask: np.ndarray, spacing: np.ndarray, smallest_ml: float = 0.5) -> np.ndarray:
    labels, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    volumes = np.bincount(labels.ravel()) * spacing.prod() / 1000
    volumes[0] = 0
    return (volumes >= smallest_ml)[labels]


@pytest.mark.slow
def test_thresholds_are_mediocre_on_it():
    studies = [isles2018.make_study(2018, k, with_ctp=False) for k in range(12)]
    late, low = np.mean([rules(study) for study in studies], axis=0)
    assert 0.25 < late < 0.65
    assert 0.25 < low < 0.65
    volumes = [np.count_nonzero(one["OT"][0]) * abs(np.linalg.det(one["OT"][1][:3, :3])) / 1000 for one in studies]
    assert min(volumes) > 0.1 and 4 < np.median(volumes) < 30
    assert max(ndimage.label(one["OT"][0], WATERSHED)[1] for one in studies) <= 5  # pyright: ignore[reportIndexIssue]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "index"), [(isles2018.make_study, 5), (isles2022.make_study, 1), (two_reader.make_study, 2)]
)
def test_a_study_takes_at_most_two_seconds_of_a_core_that_has_nothing_else_to_do(make, index):
    """By the arithmetic that a study mostly is, done beside it: a core that others use as well is slower at both.

    Such a core does it in a quarter of a second.
    """
    options = {"with_ctp": False} if make is isles2018.make_study else {}
    volume = np.zeros((64, 256, 256))
    places = np.indices((64, 128, 128)) * 0.7

    def arithmetic() -> None:
        ndimage.gaussian_filter(volume, 3)
        ndimage.map_coordinates(volume, places, order=1)

    ratios = []
    for _ in range(3):
        study = _core_seconds(lambda: make(2018, index, **options))
        ratios.append(study / _core_seconds(arithmetic))
    assert min(ratios) < 8.0


def _core_seconds(call) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun
