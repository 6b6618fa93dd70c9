"""Weights from PyTorch files: what is read, what is refused and why, and a run that training goes on with."""

from __future__ import annotations

import io
import pickle
import shlex
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.models import apply

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its weights cannot be read (extra: torch)")

from safetensors.torch import save, save_file  # noqa: E402

from jaxstroke import export, import_weights, train  # noqa: E402
from jaxstroke.comparison import specimen  # noqa: E402
from jaxstroke.exports.trained import read_run  # noqa: E402
from jaxstroke.inference.predictor import Predictor  # noqa: E402
from jaxstroke.runs.folder import RunFolder  # noqa: E402
from jaxstroke.schedules import build_optimiser  # noqa: E402
from jaxstroke.torch_twin import reading, registry, weights  # noqa: E402
from jaxstroke.training.state import TrainState  # noqa: E402

pytestmark = pytest.mark.torch
SMALL = ["--scale", "small", "--set", "model.width=4", "--set", "data.size=32"]
NAME = "conv_lstm_unet_isles18"


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return overrides.override(catalogue.load(NAME, scale="small"), {"model.width": 4, "data.size": 32})


@pytest.fixture(scope="module")
def state(experiment: Experiment) -> dict:
    """Drawn weights of the small twin."""
    network = apply.build(experiment)
    shapes = jax.eval_shape(lambda key: apply.initialise(network, experiment.data, key), jax.random.key(0))
    groups = tuple(len(group) for group in experiment.data.groups)
    twin = registry.build(experiment.model.name, network, groups)
    return weights.to_torch(specimen.draw_weights(shapes, 3), twin)


def test_a_flipped_byte_in_an_archive_is_found(tmp_path: Path, state: dict) -> None:
    """PyTorch itself does not look at the archive's checksums."""
    path = tmp_path / "w.pt"
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"w\.pt: it is damaged \(.* does not have its checksum\); get the file anew"):
        reading.read_state_dict(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_weights_come_back_bit_for_bit(tmp_path: Path, state: dict, name: str) -> None:
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    read = reading.read_state_dict(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


@pytest.mark.slow
def test_an_imported_run_holds_the_weights(tmp_path: Path, state: dict, experiment: Experiment) -> None:
    save_file(state, tmp_path / "w.safetensors")
    out = tmp_path / "run"
    assert import_weights.main([str(tmp_path / "w.safetensors"), "--exp", NAME, "-o", str(out), *SMALL]) == 0
    run = RunFolder(out)
    assert run.checkpoints().steps() == [0]
    assert run.experiment() == experiment
    assert Predictor.of_run(run)  # the weights are those of the network that the run names
    with pytest.raises(UserError, match="something is there already"):
        import_weights.main([str(tmp_path / "w.safetensors"), "--exp", NAME, "-o", str(out), *SMALL])
    # The first data that the run is trained on become its own; after that others are refused.
    run.start(experiment, {**run.about(), "data_fingerprint": "a"})
    assert run.about()["data_fingerprint"] == "a" and run.about()["imported"]["sha256"]
    with pytest.raises(UserError, match="begun on other data"):
        run.start(experiment, {**run.about(), "data_fingerprint": "b"})


def test_weights_of_another_network_are_named(tmp_path: Path, state: dict) -> None:
    changed = {name: tensor for name, tensor in state.items() if name != "head.conv.conv.bias"}
    changed["tail.weight"] = torch.zeros(1)
    changed["fuse.conv.weight"] = torch.zeros(1, 2, 1, 1)
    save_file(changed, tmp_path / "w.safetensors")
    with pytest.raises(UserError) as error:
        import_weights.main([str(tmp_path / "w.safetensors"), "--exp", NAME, "-o", str(tmp_path / "run"), *SMALL])
    for part in ("1 tensors are missing: head.conv.conv.bias", "tail.weight", r"fuse.conv.weight is (1, 2, 1, 1), not"):
        assert part in str(error.value)
    assert not (tmp_path / "run").exists()


class _Hostile:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def _bytes(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _compressed(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    return packed.getvalue()


HUGE = torch.zeros(1).expand(2**31)
FILES = {
    "hostile.pt": (_bytes({"a": _Hostile()}), "calls for .*print, and code in a file is never run"),
    "bare_pickle.pt": (pickle.dumps(_Hostile()), "no PyTorch file"),
    "module.pt": (_bytes(torch.nn.Linear(1, 1)), "not a plain state dict"),
    "list.pt": (_bytes([torch.zeros(1)]), "holds a list"),
    "nested.pt": (_bytes({"model": {"a": torch.zeros(1)}}), "model is a dict"),
    "integers.pt": (_bytes({"a": torch.zeros(1, dtype=torch.int64)}), "floating-point"),
    "infinite.pt": (_bytes({"a": torch.tensor([float("inf")])}), "not finite"),
    "huge_view.pt": (_bytes({"a": HUGE}), "larger than any weight"),
    "compressed.pt": (_compressed(_bytes({"a": torch.zeros(1)})), "compressed"),
    "cut.pt": (_bytes({"a": torch.zeros(99)})[:200], "no PyTorch file"),
    "text.safetensors": (b"not weights", "no whole safetensors file"),
    "claims.safetensors": (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "no whole safetensors file"),
    "cut.safetensors": (save({"a": torch.zeros(99)})[:200], "it is cut short"),
    "empty.safetensors": (b"", "no whole safetensors file"),
    "weights.npy": (b"", r"\.npy is none of them"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_or_broken_file_gets_a_plain_error(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, told = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=told) as error:
        reading.read_state_dict(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert "weights_only" not in str(error.value) and "Weights only load failed" not in str(error.value)
    assert "Error while" not in str(error.value), "the libraries' words"
    assert "never be printed" not in capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        reading.read_state_dict(tmp_path / "w.pt")


def test_narrow_numbers_are_widened(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "w.safetensors")
    assert reading.read_state_dict(tmp_path / "w.safetensors")["a"].dtype == torch.float32


def test_rules_are_there_and_back_the_same() -> None:
    """Every kind of module, with numbers that tell every axis apart."""
    owner = torch.nn.Module()
    kinds = {
        "conv": (torch.nn.Conv2d(2, 3, (4, 5)), (4, 5, 2, 3)),
        "volume": (torch.nn.Conv3d(2, 3, (4, 5, 6)), (4, 5, 6, 2, 3)),
        "up": (torch.nn.ConvTranspose2d(2, 3, (4, 5)), (4, 5, 2, 3)),
        "dense": (torch.nn.Linear(2, 3), (2, 3)),
        "nodes": (torch.nn.Conv1d(2, 3, 1), (2, 3)),
    }
    tree: dict = {"params": {}}
    for name, (module, shape) in kinds.items():
        owner.add_module(name, module)
        kernel = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        tree["params"][name] = {"kernel": kernel, "bias": np.arange(3, dtype=np.float32)}
    there = weights.to_torch(tree, owner)
    assert there["conv.weight"][2, 1, 3, 4] == tree["params"]["conv"]["kernel"][3, 4, 1, 2]
    assert there["up.weight"][1, 2, 0, 0] == tree["params"]["up"]["kernel"][3, 4, 1, 2]
    back = weights.to_flax(there, owner, tree, source="test")
    assert jax.tree.all(jax.tree.map(np.array_equal, tree, back))


TINY = {
    "data.size": 32,
    "data.spacing_mm": 6.0,
    "data.batch": 4,
    "data.phantom_cases": 5,
    "data.folds": 3,
    "model.width": 2,
    "training.epochs": 1,
    "training.steps_per_epoch": 1,
    "training.validate_every_epochs": 1,
}


@pytest.mark.slow
def test_training_goes_on_from_imported_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, exported, imported and trained on through the doors is as if the weights had never left."""
    network = ["--exp", "unet_isles18", *(word for name in TINY for word in ("--set", f"{name}={TINY[name]}"))]
    trained, imported, stayed = (tmp_path / name for name in ("trained", "imported", "stayed"))
    assert train.main([*network, "--out", str(trained)]) == 0
    assert export.main([str(trained), "-o", str(tmp_path / "exported")]) == 0
    weights_file = tmp_path / "exported" / "weights.safetensors"
    assert import_weights.main([str(weights_file), *network, "-o", str(imported)]) == 0
    told = capsys.readouterr().out.splitlines()[-1]  # without its data it would be trained on phantoms
    assert told.endswith(shlex.join(["jaxstroke.train", *network, "--out", str(imported), "--data", "PATH"]))

    source = read_run(trained).variables
    assert _same_bits(read_run(imported).variables, source)
    _begin_with(source, RunFolder(imported), RunFolder(stayed))
    for path in (imported, stayed):
        assert train.main([*network, "--out", str(path), "--resume"]) == 0
    (first,), (moved,), (there,) = (RunFolder(path).journal.rows() for path in (trained, imported, stayed))
    assert moved["step"] == there["step"] == 1  # so that the epoch's mean loss is that of step 1
    assert moved["loss"] == there["loss"] != first["loss"]
    after, expected = (read_run(path).variables for path in (imported, stayed))
    assert _same_bits(after, expected) and not _same_bits(after, source)


def _same_bits(one: dict, other: dict) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), one, other))


def _begin_with(variables: dict, like: RunFolder, run: RunFolder) -> None:
    """A run with these weights at step 0 and a fresh optimiser, written without PyTorch."""
    experiment = like.experiment()
    optimiser = build_optimiser(experiment.optimiser, lambda step: 0.0)
    params, statistics = (jax.tree.map(jnp.asarray, variables[name]) for name in ("params", "batch_stats"))
    state = TrainState(jnp.zeros((), jnp.int32), params, statistics, optimiser.init(params))
    run.start(experiment, like.about())
    checkpoints = run.checkpoints()
    checkpoints.save(0, state.trees(), {"best_steps": {}})
    checkpoints.close()
