"""The rule of an export: its `predict.py`, alone in its folder, makes the masks that `predict` makes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import drawn_run, small_experiment
from small_studies import isles2022_root, lesion

pytest.importorskip("torch", reason="PyTorch is not installed: exports are checked with it (extra: torch)")

import jaxstroke  # noqa: E402
from jaxstroke import export  # noqa: E402
from jaxstroke.data.layouts import find_layout  # noqa: E402
from jaxstroke.data.prepare import prepare  # noqa: E402
from jaxstroke.data.study import read_study  # noqa: E402
from jaxstroke.experiment.kinds import Kind  # noqa: E402
from jaxstroke.exports import folder, scripts  # noqa: E402
from jaxstroke.inference.postprocess import mask_of  # noqa: E402
from jaxstroke.runs import calibration  # noqa: E402
from jaxstroke.runs.calibration import Calibration, Rule  # noqa: E402

pytestmark = pytest.mark.torch
SHAPE = (3, 32, 32)
VOXEL_ML = 0.008


def of_script(name: str, rule: dict[str, Any], voxel_ml: float) -> Callable[[np.ndarray], np.ndarray]:
    """A function of the script by itself."""
    text = scripts.script("stablehlo", Kind())
    begin = text.index(f"def {name}(")
    space: dict[str, Any] = {"numpy": np, "rule": rule, "voxel_ml": voxel_ml}
    exec(text[begin : text.index("\n\n", begin)], space)
    return space[name]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 2 * VOXEL_ML, 5 * VOXEL_ML]),
    st.booleans(),
    st.sampled_from([0.05, 0.15, 0.3]),
)
def test_the_script_counts_lesions_as_the_program_does(seed: int, smallest: float, largest: bool, share: float) -> None:
    rng = np.random.default_rng(seed)
    probabilities = (rng.uniform(size=(4, 7, 6)) < share) * 0.6
    rule = {"threshold": 0.5, "smallest_lesion_ml": smallest, "largest_component": largest}
    expected = mask_of(probabilities, Rule(**rule), (2.0, 2.0, 2.0))
    np.testing.assert_array_equal(of_script("mask_of", rule, VOXEL_ML)(probabilities), expected)


@dataclasses.dataclass(frozen=True)
class Predicted:
    """A run with mirrored copies, temperature, threshold and smallest lesion, and what `predict` makes of a study whose
    grid preparation leaves as it is."""

    run: Path
    images: np.ndarray
    probabilities: np.ndarray
    mask: np.ndarray
    threshold: float


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    place = tmp_path_factory.mktemp("predicted")
    isles2022_root(place / "data", [lesion(SHAPE, {1: (12, 12)}, side=8)])
    flips = {"augment.flip_left_right": True, "augment.flip_front_back": True, "data.spacing_mm": None}
    experiment = small_experiment(**flips)
    run = place / "run"
    drawn_run(run, 1, data=place / "data", split={"train": [], "validation": [], "test": []}, experiment=experiment)
    study = read_study(find_layout("isles2022").find(place / "data")[0], ("DWI", "ADC"))
    images = prepare(study, experiment.data).images
    assert images.shape[:3] == SHAPE
    calibration.write(run, Calibration(7, True, 0.05, Rule()), {"by": "dice"})
    found = jaxstroke.load(run).predict(study).probability
    ordered = np.unique(found)
    ordered = ordered[len(ordered) // 2 : 9 * len(ordered) // 10]
    widest = int(np.diff(ordered).argmax())  # so that rounding decides nowhere
    rule = Rule(float(ordered[widest : widest + 2].mean()), 6 * VOXEL_ML)
    assert np.abs(found - rule.threshold).min() > 2e-5
    calibration.write(run, Calibration(7, True, 0.05, rule), {"by": "dice"})
    mask = jaxstroke.load(run).predict(study).mask
    np.testing.assert_array_equal(mask, mask_of(found, rule, study.spacing_mm))
    assert 0 < mask.sum() < (found > rule.threshold).sum() < mask.size, "the smallest lesion takes some away"
    return Predicted(run, images, found, mask, rule.threshold)


@pytest.mark.slow
@pytest.mark.parametrize("target", folder.TARGETS)
def test_every_export_makes_the_mask_that_predict_makes(predicted: Predicted, tmp_path: Path, target: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime") if target == "onnx" else ():
        pytest.importorskip(package, reason=f"{package} is not installed: ONNX cannot be written or run (extra: onnx)")
    out = tmp_path / "exported"
    assert export.main([str(predicted.run), "-o", str(out), "--to", target]) == 0
    kept = json.loads((out / "rule.json").read_text())
    assert kept["calibrated"] and kept["copies"] == [[], ["rows"], ["columns"], ["rows", "columns"]]
    report = json.loads((out / "report.json").read_text())
    assert "(calibrated)" in report["rule"]
    channel = {"channels last": -1, "channels first": 1}[report["layout"]]
    np.save(out / "images.npy", np.ascontiguousarray(np.moveaxis(predicted.images, -1, channel)))
    command = [sys.executable, "predict.py", "images.npy"]
    refused = subprocess.run(command, cwd=out, capture_output=True, text=True)
    assert refused.returncode == 1 and refused.stderr.startswith("error: VOXEL_ML is missing")
    subprocess.run([*command, str(VOXEL_ML)], cwd=out, check=True, capture_output=True)
    probabilities, mask = (np.load(out / f"{name}.npy", allow_pickle=False) for name in ("probabilities", "mask"))
    np.testing.assert_allclose(np.take(probabilities, 0, channel), predicted.probabilities, atol=1e-5)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(np.take(mask, 0, channel), predicted.mask)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", [Kind(), Kind(holds_slices=True), Kind(holds_slices=True, in_order=True)])
def test_slices_rows_and_columns_come_last_and_go_back(kind: Kind, last: bool) -> None:
    """Sizes tell the axes: 2 slices, 5 rows, 7 columns, 3 targets, a batch of 11 (which for slices are the slices)."""
    if kind.in_order:
        shape, expected = (2, 11, 3, 5, 7), (11, 3, 2, 5, 7)
    elif kind.holds_slices:
        shape, expected = (11, 3, 2, 5, 7), (11, 3, 2, 5, 7)
    else:
        shape, expected = (2, 3, 5, 7), (3, 2, 5, 7)
    channel = len(shape) - shape[::-1].index(3) - 1
    array = np.moveaxis(np.zeros(shape), channel, -1) if last else np.zeros(shape)
    assert np.transpose(array, scripts._order(kind, channels_last=last)).shape == expected
