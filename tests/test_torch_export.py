"""Exports: written, run from what was written, compared, described; and deleted where they answer otherwise."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstroke import export, files
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, as_json, catalogue, overrides
from jaxstroke.experiment.kinds import Kind
from jaxstroke.models import apply
from jaxstroke.models import registry as linen
from jaxstroke.runs import folder as runs

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be exported to it (extra: torch)")

from jaxstroke.comparison import specimen  # noqa: E402
from jaxstroke.exports import check, folder, scripts, torch_program  # noqa: E402
from jaxstroke.exports.trained import Trained, read_run  # noqa: E402
from jaxstroke.torch_twin import arrays, reading, weights  # noqa: E402

pytestmark = pytest.mark.torch
ONE_SIZE = ("mda_net", "swin_unet", "trans_unet")  # networks that are built for one height and width
RUNS = {
    "unet": ("mdanet_isles18_unet", {"model.width": 4, "data.size": 32}),
    "dme_net": (
        "dme_isles18",
        {"model.width": 8, "data.size": 32, "model.memory_slices": 2, "model.prototypes": 4},
    ),
    "swin_unet": ("swin_unet_isles18", {"model.width": 12, "model.attention_heads": (1, 2, 2, 2), "data.size": 32}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that were never trained, but hold drawn weights as a checkpoint would."""
    found = {}
    for name, (word, changes) in RUNS.items():
        experiment = overrides.override(catalogue.load(word, scale="small"), changes)
        path = tmp_path_factory.mktemp(name) / "run"
        run = runs.RunFolder(path)
        split = {"train": [], "validation": [], "test": []}
        data = {"data": "", "phantom": True, "data_fingerprint": "x", "split": split}
        run.start(experiment, runs.describe(device={}, seed=0, data=data))
        network = apply.build(experiment)
        drawing = functools.partial(apply.initialise, network, experiment.data)
        shapes = jax.eval_shape(drawing, jax.random.key(0))
        drawn = jax.tree.map(jnp.asarray, specimen.draw_weights(shapes, 5))
        checkpoints = run.checkpoints()
        checkpoints.save(7, {"weights": {"batch_stats": {}, **drawn}}, {"best_steps": {}})
        checkpoints.close()
        found[name] = path
    return found


def _verified(out: Path) -> dict:
    """The report, after its checksums and figures have been looked at."""
    report = json.loads((out / "report.json").read_text())
    assert {path.name for path in out.iterdir()} == {*report["sha256"], "report.json"}
    assert all(files.sha256(out / name) == digest for name, digest in report["sha256"].items())
    assert [one["inputs"] for one in report["checks"]] == ["random", "random", "phantom"]
    assert all(one["error"] <= 1e-4 for one in report["checks"])
    assert report["weights_of_step"] == 7 and report["trained_on_phantom"] is True and report["format"] == 1
    return report


def _run_script(out: Path, images: np.ndarray, forbidden: str = "jaxstroke") -> np.ndarray:
    """Runs predict.py as a user would, where jaxstroke cannot be imported."""
    np.save(out / "images.npy", images)
    program = (
        f"import sys; sys.modules[{forbidden!r}] = None; sys.argv = ['predict.py', 'images.npy']\n"
        "import runpy; runpy.run_path('predict.py')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(out / "probabilities.npy", allow_pickle=False)


@pytest.mark.slow
def test_a_torch_program_stands_alone(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exported"
    assert export.main([str(made["unet"]), "-o", str(out)]) == 0
    typed = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ")
    report = _verified(out)
    assert report["height_and_width"] == "multiples of 16"
    trained = read_run(made["unet"])
    read = reading.read_state_dict(out / "weights.safetensors")
    twin = torch_program.twin_of(trained)
    back = weights.to_flax(read, twin, trained.variables, source="test")
    assert jax.tree.all(jax.tree.map(np.array_equal, back, trained.variables))
    assert as_json.from_tree(Experiment, json.loads((out / "experiment.json").read_text()), "") == trained.experiment

    images = np.random.default_rng(0).normal(size=(1, 48, 32, 4)).astype(np.float32)  # no square, not the run's size
    answer = _run_script(out, arrays.to_torch(images, Kind()).numpy())
    expected = trained.function(images)[0]
    np.testing.assert_allclose(np.moveaxis(answer, 1, -1), np.asarray(expected), atol=1e-5)
    (out / "images.npy").rename(out / "IMAGES.npy")
    (out / "probabilities.npy").unlink()
    done = subprocess.run(["bash", "-c", typed], check=True, capture_output=True, text=True)
    assert done.stdout == "probabilities.npy, mask.npy: 1x1x48x32 - not a medical device\n"
    np.testing.assert_array_equal(np.load(out / "probabilities.npy", allow_pickle=False), answer)
    assert "usage: python predict.py IMAGES.npy" in _refused(out)
    assert "nothing.npy: it cannot be read as an .npy array" in _refused(out, "nothing.npy")
    np.save(out / "flat.npy", np.zeros((3, 4), np.float32))
    assert "flat.npy has the shape (3, 4), which does not fit" in _refused(out, "flat.npy")
    assert report["checks"][0]["shape"][1] == 4, "channels first, as the program takes them"


@pytest.mark.slow
def test_a_streaming_program_carries_its_memory(made: dict[str, Path], tmp_path: Path) -> None:
    """predict.py, slice by slice from memory.npz on, gives what the JAX network gives for the clip at once."""
    out = tmp_path / "exported"
    assert export.main([str(made["dme_net"]), "-o", str(out)]) == 0
    report = _verified(out)
    assert report["inputs"] == [
        "images", "temporal_keys", "temporal_values", "temporal_stored", "temporal_hidden", "spatial_slots"
    ]  # fmt: skip
    trained = read_run(made["dme_net"])
    clip = np.random.default_rng(0).normal(size=(1, 4, 32, 32, 5)).astype(np.float32)
    answer = _run_script(out, np.ascontiguousarray(np.transpose(clip, (1, 0, 4, 2, 3))))
    expected = trained.network.apply(trained.variables, clip, np.ones((1, 4), bool), train=False).logits
    np.testing.assert_allclose(answer[:, 0, 0], jax.nn.sigmoid(expected)[0, ..., 0], atol=1e-5)


@pytest.mark.slow
def test_a_network_of_one_size_says_so(made: dict[str, Path], tmp_path: Path) -> None:
    assert export.main([str(made["swin_unet"]), "-o", str(tmp_path / "x")]) == 0
    assert _verified(tmp_path / "x")["height_and_width"] == "32"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "dme_net"])
def test_stablehlo_is_served_by_jax_alone(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    out = tmp_path / "exported"
    assert export.main([str(made[name]), "-o", str(out), "--to", "stablehlo"]) == 0
    report = _verified(out)
    assert report["layout"] == "channels last"
    trained = read_run(made[name])
    shape = trained.image_shape(1, 32)
    images = np.random.default_rng(0).normal(size=(2, *shape) if trained.streams else shape).astype(np.float32)
    answer = _run_script(out, images)
    first = images[0] if trained.streams else images
    expected = trained.function(first, *trained.initial_memory(1, 32))[0]
    np.testing.assert_allclose(answer[0] if trained.streams else answer, np.asarray(expected), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "dme_net"])
def test_onnx_runs_in_onnxruntime(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: ONNX cannot be written or run (extra: onnx)")
    out = tmp_path / "exported"
    assert export.main([str(made[name]), "-o", str(out), "--to", "onnx"]) == 0
    _verified(out)
    trained = read_run(made[name])
    channels = trained.image_shape(1, 32)[-1]
    images = np.random.default_rng(0).normal(size=(1, channels, 32, 32)).astype(np.float32)
    answer = _run_script(out, images[None] if trained.streams else images, forbidden="torch")
    expected = trained.function(np.moveaxis(images, 1, -1), *trained.initial_memory(1, 32))[0]
    answer = answer[0] if trained.streams else answer
    np.testing.assert_allclose(np.moveaxis(answer, 1, -1), np.asarray(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "multiple"), [("unet", 16), ("cross_domain/v1", 16), ("cross_domain/v1_literal", 32), ("cascade", 32)]
)
def test_an_open_size_comes_in_steps_that_the_network_takes(name: str, multiple: int) -> None:
    one = specimen.specimen(name)
    assert Trained(one.experiment, specimen.draw_weights(one.shapes(), 0), 0, True).multiple == multiple


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(linen.networks()) - {"unet", "dme_net"}))
def test_every_network_goes_to_every_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Held on one input each, of another batch, and size where that is open: every further one is a compilation."""
    one = specimen.specimen(name)
    trained = Trained(one.experiment, specimen.draw_weights(one.shapes(), 5), 7, True)
    inputs, trace = check._inputs, torch_program.trace
    monkeypatch.setattr(check, "_inputs", lambda *given: list(inputs(*given))[1:2])
    traced = functools.cache(lambda open_size: trace(trained, module, open_size=open_size))
    module = torch_program.module_of(trained, torch_program.twin_of(trained))
    monkeypatch.setattr(torch_program, "trace", lambda trained, module, *, open_size: traced(open_size))
    missing = [package for package in ("onnx", "onnxscript", "onnxruntime") if find_spec(package) is None]
    for target in folder.TARGETS:
        if target == "onnx" and missing:
            continue
        report = folder.export(trained, tmp_path / target, target, lambda text: None)
        (checked,) = report["checks"]
        assert checked["shape"][0] == 3 and checked["error"] <= 1e-4
        fixed = target == "stablehlo" or name in ONE_SIZE or (name == "psp_net" and target == "onnx")
        assert (report["height_and_width"] == str(trained.data.size)) is fixed
    if missing:
        pytest.skip(f"ONNX was left out, since {', '.join(missing)} is not installed (extra: onnx)")


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_an_export_that_answers_otherwise_is_deleted(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    genuine = folder._WRITERS["stablehlo"]

    def wrong(trained: Trained, where: Path, open_size: bool) -> check.Runner:
        run = genuine(trained, where, open_size)
        return lambda inputs: [factor * array for array in run(inputs)]

    monkeypatch.setitem(folder._WRITERS, "stablehlo", wrong)
    with pytest.raises(UserError, match="does not answer as the JAX network does .* deleted"):
        export.main([str(made["unet"]), "-o", str(tmp_path / "x"), "--to", "stablehlo"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_nothing_is_overwritten(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="something is there already"):
        export.main([str(made["unet"]), "-o", str(tmp_path)])
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this is no run folder"):
        export.main([str(tmp_path), "-o", str(tmp_path / "x")])


@pytest.mark.parametrize("target", folder.TARGETS)
@pytest.mark.parametrize("streams", [False, True])
def test_scripts_need_nothing_of_this_project(target: str, streams: bool) -> None:
    text = scripts.script(target, Kind(holds_slices=streams, in_order=streams))
    compile(text, "predict.py", "exec")
    assert "jaxstroke" not in text and "allow_pickle=True" not in text
    assert len([line for line in text.splitlines() if line]) <= 64


def _refused(out: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "predict.py", *words], cwd=out, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.slow
def test_errors_are_relative_and_shapes_must_agree(made: dict[str, Path]) -> None:
    trained = read_run(made["unet"])
    found = check.check(trained, lambda inputs: [np.zeros((1, 1), np.float32)], open_size=False)
    assert all(one.error == float("inf") and not one.passed for one in found)
