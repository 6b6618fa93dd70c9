"""Examples that go through a network one after another, as on a CPU, get the answers that they get side by side."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from random_weights import random_weights

from jaxstroke import sharding
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.inference.predictor import Predictor
from jaxstroke.models import apply
from jaxstroke.training import program


def _small(name: str) -> tuple[Experiment, dict[str, np.ndarray]]:
    """An experiment in small, and three drawn examples; the last slice of what holds slices is not there."""
    experiment = overrides.override(catalogue.load(name, scale="small"), {"data.size": 32})
    data, numbers = experiment.data, np.random.default_rng(0)
    valid = np.ones((3, *apply.valid_shape(data)), bool)
    if data.kind.holds_slices:
        valid[:, -1] = False
    return experiment, {
        "images": numbers.normal(size=(3, *apply.example_shape(data))).astype(np.float32),
        "valid": valid,
    }


@pytest.mark.parametrize(
    "name",
    [
        "mdanet_isles18",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("dme_isles18", "cascade_stage1", "crossdomain_v1")),
    ],
)
def test_every_output_is_that_of_the_batch(name: str) -> None:
    experiment, batch = _small(name)
    network = apply.build(experiment)
    variables = random_weights(network, *apply.inputs(batch, experiment.data), train=False)

    def answer(one_by_one: bool) -> dict[str, np.ndarray]:
        forward = jax.jit(lambda v, rows: apply.forward(network, v, rows, experiment.data, one_by_one=one_by_one))
        leaves = jax.tree_util.tree_flatten_with_path(forward(variables, batch))[0]
        return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in leaves}

    by_batch, by_one = answer(False), answer(True)
    assert by_batch.keys() == by_one.keys()
    for path, expected in by_batch.items():
        assert expected.std() > 0
        assert np.linalg.norm(by_one[path] - expected) < 2e-5 * np.linalg.norm(expected), path


def test_it_is_for_one_cpu_alone() -> None:
    """A network without loops of its own has one where its mesh is one CPU, and none on several devices."""
    experiment, _ = _small("mdanet_isles18_unet")
    batch = apply.abstract_batch(experiment.data)

    def judging(count: int) -> str:
        mesh = sharding.make_mesh(jax.devices()[:count])
        built = program.build(experiment, mesh, steps_per_epoch=1)
        rows = sharding.with_shardings(batch, sharding.batch_sharding(mesh))
        return built.validate.lower(built.shapes, rows).as_text()

    assert "stablehlo.while" in judging(1) and "stablehlo.while" not in judging(2)


def test_a_prediction_takes_the_form_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, batch = _small("mdanet_isles18_unet")
    variables = random_weights(apply.build(experiment), batch["images"], train=False)

    def text() -> str:
        return Predictor(experiment, variables)._run.lower(variables, batch["images"]).as_text()

    assert "stablehlo.while" in text()
    monkeypatch.setattr(sharding, "on_accelerator", lambda: True)
    assert "stablehlo.while" not in text()
