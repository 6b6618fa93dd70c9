"""A study without one of a network's images: an error that names it, or zeros that every output tells of."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from small_studies import isles2022_root, lesion

from jaxstroke import evaluate
from jaxstroke.augment import augment
from jaxstroke.data.case import Case
from jaxstroke.data.prepare import prepare
from jaxstroke.data.study import Study, read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Augment, Data, catalogue
from jaxstroke.experiment.overrides import override
from jaxstroke.inference import many, written
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.pages import keep

SHAPE = (4, 40, 32)
BOTH = Data("isles2022", (("DWI",), ("ADC",)), size=48, spacing_mm=2.0)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (whole,) = isles2022_root(tmp_path / "data", [lesion(SHAPE, {})])
    return dataclasses.replace(whole, images={"DWI": whole.images["DWI"]})


# --- in use ---


def test_what_is_missing_is_zero_and_the_rest_is_as_it_would_be_alone(case: Case) -> None:
    for words, place in ((("DWI", "ADC"), 0), (("ADC", "DWI"), 1)):
        data = dataclasses.replace(BOTH, groups=tuple((word,) for word in words))
        study = read_study(case, words, allow_missing=True)
        assert study.missing == ("ADC",) and list(study.images) == ["DWI"]
        assert study.warnings == ("study sub-strokecase0001: it has no image ADC; the network sees 0 there",)
        images = prepare(study, data).images
        alone = prepare(read_study(case, ("DWI",)), dataclasses.replace(BOTH, groups=(("DWI",),))).images
        assert images.shape[-1] == 2 and not images[..., 1 - place].any() and alone.any()
        np.testing.assert_array_equal(images[..., place], alone[..., 0])


def test_a_window_that_does_not_begin_at_zero_leaves_zeros_too(case: Case) -> None:
    """(0 - 300) / 700 would be the value of an image of zeros; a missing one is 0."""
    data = dataclasses.replace(BOTH, groups=(("DWI", "CT"),))
    study = dataclasses.replace(read_study(case, ("DWI",)), missing=("CT",))
    assert not prepare(study, dataclasses.replace(data, normalise_of={"CT": "window"})).images[..., 1].any()


def test_a_study_with_none_of_the_images_is_refused(case: Case) -> None:
    with pytest.raises(UserError, match="study sub-strokecase0001: it has no image FLAIR, T1w; its images are: DWI"):
        read_study(case, ("FLAIR", "T1w"), allow_missing=True)
    study = dataclasses.replace(read_study(case, ("DWI",)), missing=("ADC", "FLAIR"))
    with pytest.raises(UserError, match="it has none of the network's images, ADC, FLAIR"):
        prepare(study, dataclasses.replace(BOTH, groups=(("ADC", "FLAIR"),)))


def predicted(case: Case, out: Path, *, allow_missing: bool) -> many.Outcome:
    def bright(study: Study) -> Answer:
        return Answer((study.images["DWI"] > 110)[..., None].astype(np.float32), {})

    system = System("bright", "Bright", ("DWI", "ADC"), bright, lambda values, spacing_mm: values > 0.5)
    write = functools.partial(written.write, out, system=system, targets=("lesion",))
    return many.predict([case], system, write, lambda *_, **__: None, allow_missing=allow_missing)


def test_the_error_names_the_image_and_the_option(case: Case, tmp_path: Path) -> None:
    outcome = predicted(case, tmp_path / "out", allow_missing=False)
    (failed,) = outcome.failed
    told = "study sub-strokecase0001: it has no image ADC; its images are: DWI; --allow-missing predicts all the same"
    assert failed["reason"].startswith(told) and not outcome.done and not (tmp_path / "out").exists()


def test_every_output_tells_what_was_missing(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(written, "overlay", lambda *_, title: titles.append(title))
    (line,) = predicted(case, tmp_path / "out", allow_missing=True).done
    assert line["missing"] == ["ADC"] and "it has no image ADC" in line["warnings"][0]
    assert titles == ["sub-strokecase0001 [without ADC]: lesion"]
    assert "it has no image ADC; the network sees 0 there" in capsys.readouterr().err
    assert written.without([]) == ""


@pytest.mark.slow
def test_evaluate_judges_without_an_image_where_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No study has both images, so that the data set is found by one alone."""
    run = small_runs.drawn_run(tmp_path / "run", 3, data=tmp_path, split={"train": ["x"], "validation": [], "test": []})
    cases = isles2022_root(tmp_path / "data", [lesion(SHAPE, {1: (12, 12)})] * 2)
    for case, word in zip(cases, ("ADC", "DWI"), strict=True):
        case.images[word].unlink()
    words = [str(run.path), "--data", str(tmp_path / "data"), "-o", str(tmp_path / "out")]
    with pytest.raises(UserError, match="the network needs ADC, which sub-strokecase0001 does not have; --allow-missi"):
        evaluate.main(words)
    titles: list[str] = []
    monkeypatch.setattr(keep, "overlay", lambda *_, title, **__: titles.append(title))
    assert evaluate.main([*words, "--allow-missing"]) == 0
    told = capsys.readouterr().out
    assert "sub-strokecase0001 was judged without ADC" in told and "sub-strokecase0002 was judged without DWI" in told
    assert titles == ["sub-strokecase0001 [without ADC]: lesion", "sub-strokecase0002 [without DWI]: lesion"]
    folder = tmp_path / "out" / "evaluation" / "external-data"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["missing"] == {"sub-strokecase0001": ["ADC"], "sub-strokecase0002": ["DWI"]}
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    assert [(row["system"], row["missing"]) for row in rows] == [("unet_isles22", "ADC"), ("unet_isles22", "DWI")]


# --- in training ---


def batch(examples: int, channels: int, lead: tuple[int, ...] = ()) -> dict[str, jax.Array]:
    images = jnp.asarray(np.ones((examples, *lead, 4, 4, channels), np.float32) * np.arange(1, channels + 1))
    masks = jnp.ones((examples, *lead, 4, 4, 1))
    return {"images": images, "masks": masks, "distance": masks, "index": jnp.arange(examples)}


def kept(images: jax.Array) -> np.ndarray:
    """(B, C): which channels are there; each is whole or 0 everywhere."""
    flat = np.asarray(images).reshape(len(images), -1, images.shape[-1])
    there = (flat != 0).all(axis=1)
    assert (there == (flat != 0).any(axis=1)).all()
    np.testing.assert_array_equal(flat, there[:, None] * np.arange(1.0, flat.shape[-1] + 1) * np.ones(flat.shape))
    return there


@pytest.mark.parametrize(("chance", "channels"), [(0.5, 2), (0.3, 3), (1.0, 3)])
def test_the_share_of_examples_that_keep_an_image(chance: float, channels: int) -> None:
    """1 - p, and a C-th of the p^C in which all would go."""
    examples = 3000
    spec = Augment(probability=0.0, modality_dropout=chance)
    out = augment(jax.random.key(3), batch(examples, channels), spec)
    there = kept(out["images"])
    expected = {0.5: 0.625, 0.3: 0.709, 1.0: 1 / 3}[chance]
    error = np.sqrt(expected * (1 - expected) / examples)
    np.testing.assert_allclose(there.mean(axis=0), expected, atol=4 * error)
    assert there.any(axis=1).all(), "one always stays"
    if chance == 1:
        assert (there.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(out["masks"], 1)


def test_all_slices_lose_the_same_image_and_the_draw_is_the_examples_own() -> None:
    spec = Augment(modality_dropout=0.5)
    whole = kept(augment(jax.random.key(0), batch(16, 2, lead=(5,)), spec)["images"])
    part = {name: value[6:9] for name, value in batch(16, 2, lead=(5,)).items()}
    np.testing.assert_array_equal(kept(augment(jax.random.key(0), part, spec)["images"]), whole[6:9])


def test_the_other_changes_are_drawn_as_they_were_without_it() -> None:
    spec = Augment(probability=1.0, brightness=0.5, noise=0.1)
    without = augment(jax.random.key(1), batch(8, 2), spec)["images"]
    beside = augment(jax.random.key(1), batch(8, 2), dataclasses.replace(spec, modality_dropout=0.5))["images"]
    there = np.asarray(beside != 0).any(axis=(1, 2))
    assert 0 < there.mean() < 1
    np.testing.assert_array_equal(beside, np.where(there[:, None, None], without, 0))


def test_it_is_off_by_default_and_needs_two_images() -> None:
    experiment = catalogue.load("unet_isles22", scale="small")
    assert experiment.augment.modality_dropout == 0
    assert override(experiment, {"augment.modality_dropout": 0.25}).augment.modality_dropout == 0.25
    with pytest.raises(UserError, match=r"augment\.modality_dropout=0\.25: the network sees DWI alone"):
        override(experiment, {"augment.modality_dropout": 0.25, "data.groups": [["DWI"]]})
    for value in (-0.1, 1.5):
        with pytest.raises(UserError, match=r"augment\.modality_dropout"):
            override(experiment, {"augment.modality_dropout": value})
