"""Which network of the first stage maps which patients, and that the derived cache holds what it should."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxstroke import sharding
from jaxstroke.data.cache.building import build_cache, derive_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.source import open_source
from jaxstroke.data.splits import Split
from jaxstroke.errors import UserError
from jaxstroke.experiment import as_json, catalogue, overrides
from jaxstroke.inference.cascade import first_stage
from jaxstroke.training import program
from jaxstroke.training.cascade import stage1_splits

PATIENTS = {f"case_{index}": f"patient_{index // 2}" for index in range(14)}
SPLIT = Split(
    train=tuple(f"case_{index}" for index in range(10)), validation=("case_10", "case_11"), test=("case_12", "case_13")
)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_no_network_maps_a_patient_that_it_was_trained_on_and_each_study_is_mapped_once(count: int) -> None:
    splits = stage1_splits(SPLIT, PATIENTS, count, seed=1)
    assert len(splits) == count
    for one in splits:
        assert not {PATIENTS[study] for study in one.train} & {PATIENTS[study] for study in one.test}
        assert not {*one.train, *one.test} & {*SPLIT.validation, *SPLIT.test}, "held-out studies stay held out"
        assert {*one.train, *one.test} == set(SPLIT.train) and one.validation == SPLIT.validation
    assert sorted(study for one in splits for study in one.test) == sorted(SPLIT.train)


def test_in_sample_is_one_network_that_maps_what_it_was_trained_on() -> None:
    (one,) = stage1_splits(SPLIT, PATIENTS, 1, seed=1)
    assert one.train == one.test == SPLIT.train


def test_the_first_stage_takes_files_alone_and_the_second_one_image_more() -> None:
    whole = catalogue.load("cascade_isles18")
    first = first_stage(whole)
    assert first.cascade.stage1_networks == 0 and first.data.inputs == whole.data.channels
    assert whole.data.inputs == (*whole.data.channels, "synthetic")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    changes = {"data.phantom_cases": 2, "data.size": 32}
    data = overrides.override(first_stage(catalogue.load("cascade_isles18")), changes).data
    folder = tmp_path_factory.mktemp("cache")
    return build_cache(open_source(data, None, folder).cases, data, folder / "prepared")


def test_a_derived_cache_has_one_image_more_and_the_same_masks(cache: Cache, tmp_path: Path) -> None:
    derived = derive_cache(
        cache, tmp_path, name="synthetic", made_by=["a"], channel=lambda study, images: images[..., 0] * 2 + len(study)
    )
    for study in cache.studies:
        before, after = cache.array(study.study, "images"), derived.array(study.study, "images")
        np.testing.assert_array_equal(after[..., :-1], before)
        np.testing.assert_array_equal(after[..., -1], before[..., 0] * 2 + len(study.study))
        for kind in ("masks", "distance"):
            np.testing.assert_array_equal(derived.array(study.study, kind), cache.array(study.study, kind))
    assert derived.fingerprint != cache.fingerprint and Cache.open(derived.folder) == derived


def test_a_derived_cache_is_made_once_for_the_same_weights_and_anew_for_others(cache: Cache, tmp_path: Path) -> None:
    asked = []

    def channel(study: str, images: np.ndarray) -> np.ndarray:
        asked.append(study)
        return images[..., 0]

    made = [derive_cache(cache, tmp_path, name="s", made_by=[by], channel=channel) for by in ("a", "a", "b")]
    assert made[0] == made[1] and made[0].fingerprint != made[2].fingerprint
    assert asked == [study.study for study in cache.studies] * 2


def test_dataclasses_of_the_two_stages_differ_in_nothing_else() -> None:
    whole = catalogue.load("cascade_isles18", scale="small")
    assert set(as_json.differences(whole, first_stage(whole))) == {"cascade.stage1_networks", "data.derived"}
    assert dataclasses.replace(first_stage(whole), cascade=whole.cascade, data=whole.data) == whole


def test_a_first_stage_that_makes_no_map_is_refused_before_it_is_trained() -> None:
    mesh = sharding.make_mesh(jax.devices()[:1])
    small = catalogue.load("cascade_isles18", scale="small")
    program.check(small, mesh)
    with pytest.raises(UserError, match=r"model\.attention=False.* makes no synthetic map"):
        program.check(overrides.override(small, {"model.attention": "false"}), mesh)


@pytest.mark.parametrize("changes", [{"data.derived": "[]"}, {"cascade.stage1_networks": "0"}])
def test_a_map_without_a_first_stage_and_a_first_stage_without_a_map_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"cascade\.stage1_networks=\d: data\.derived=.*set both, or neither"):
        overrides.override(catalogue.load("cascade_isles18", scale="small"), changes)
