"""What a run leaves on disk: checked checkpoints, a journal that is cut back, a folder that says what it is."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstroke import sharding
from jaxstroke.errors import UserError
from jaxstroke.experiment import as_json, catalogue, overrides
from jaxstroke.runs import folder as runs
from jaxstroke.runs.checkpoint import Checkpoints
from jaxstroke.runs.journal import Journal


def _trees(value: float) -> dict:
    return {
        "weights": {"params": {"kernel": jnp.full((3, 2), value)}, "batch_stats": {}},
        "optimiser": {"step": jnp.int32(value), "opt_state": (jnp.full((2,), value), ())},
    }


def _targets() -> dict:
    return sharding.with_shardings(jax.eval_shape(lambda: _trees(0.0)), sharding.replicated(sharding.make_mesh()))


@pytest.fixture
def five(tmp_path: Path) -> Checkpoints:
    """Checkpoints of steps 1 to 5, the second the best."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=2)
    for step in range(1, 6):
        checkpoints.save(step, _trees(float(step)), {"best_steps": {"dice": 1 if step == 1 else 2}})
    checkpoints.close()
    return checkpoints


def _array_files(checkpoints: Checkpoints, step: int) -> list[Path]:
    return sorted(path for path in (checkpoints.folder / f"step-{step:08d}").rglob("*") if path.is_file())


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_last_and_best_are_kept_and_come_back_as_they_were(five: Checkpoints) -> None:
    assert five.steps() == [2, 4, 5]
    restored = five.restore_last(_targets())
    assert restored is not None and restored.step == 5 and restored.progress == {"best_steps": {"dice": 2}}
    for there, back in zip(jax.tree.leaves(_trees(5.0)), jax.tree.leaves(restored.trees), strict=True):
        assert there.dtype == back.dtype
    np.testing.assert_array_equal(restored.trees["weights"]["params"]["kernel"], np.full((3, 2), 5.0))
    best = five.restore_best({"weights": _targets()["weights"]}, choose_by="dice")
    np.testing.assert_array_equal(best.trees["weights"]["params"]["kernel"], np.full((3, 2), 2.0))


def test_every_nth_is_kept_for_ever(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=1, keep_every_steps=2)
    for step in range(1, 6):
        checkpoints.save(step, _trees(float(step)), {"best_steps": {"dice": 1}})
    checkpoints.close()
    assert checkpoints.steps() == [1, 2, 4, 5]


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_reached_again(five: Checkpoints) -> None:
    _flip_a_bit(_array_files(five, 5)[0])
    restored = five.restore_last(_targets())
    assert restored is not None and restored.step == 4
    five.save(5, _trees(5.0), {"best_steps": {"dice": 2}})
    five.close()
    assert five.steps() == [2, 4, 5] and five.damage(5) is None


def test_the_same_step_saved_again_keeps_its_arrays_and_takes_what_is_new_of_it(five: Checkpoints) -> None:
    restored = five.restore_last(_targets())
    assert restored is not None
    before = {path: path.stat().st_mtime_ns for path in _array_files(five, 5) if path.name != "manifest.json"}
    five.save(5, _trees(5.0), {"best_steps": {"dice": 5}})
    five.close()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert five.damage(5) is None and five.progress(5) == {"best_steps": {"dice": 5}} and five.steps() == [4, 5]


def test_what_a_killed_process_left_of_a_checkpoint_is_cleared_away(
    five: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    (five.folder / "step-00000006" / "arrays.orbax-checkpoint-tmp").mkdir(parents=True)
    five.clear_unfinished()
    assert "step-00000006" in capsys.readouterr().out and five.steps() == [2, 4, 5]
    assert not (five.folder / "step-00000006").exists()


def test_a_flipped_bit_in_any_file_is_found_named_and_the_checkpoint_before_is_used(
    five: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [path for path in _array_files(five, 5) if path.stat().st_size]
    assert len(paths) > 8
    for path in paths:
        whole = path.read_bytes()
        _flip_a_bit(path)
        restored = five.restore_last(_targets())
        assert restored is not None and restored.step == 4, path
        told = capsys.readouterr().err
        assert "step-00000005" in told and (path.name in told or path.name == "manifest.json"), told
        path.write_bytes(whole)
    restored = five.restore_last(_targets())
    assert restored is not None and restored.step == 5


def test_a_missing_file_and_an_unfinished_checkpoint_are_passed_over(five: Checkpoints) -> None:
    _array_files(five, 5)[0].unlink()
    restored = five.restore_last(_targets())
    assert restored is not None and restored.step == 4
    (five.folder / "step-00000004" / "manifest.json").unlink()
    assert five.steps() == [2, 5]
    restored = five.restore_last(_targets())
    assert restored is not None and restored.step == 2


def test_every_checkpoint_damaged_is_an_error_not_a_silent_fresh_start(five: Checkpoints) -> None:
    for step in five.steps():
        _flip_a_bit(_array_files(five, step)[0])
    with pytest.raises(UserError, match="every checkpoint is damaged; start anew with --fresh"):
        five.restore_last(_targets())
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        five.restore_best(_targets(), choose_by="dice")


def test_weights_of_another_network_are_refused(five: Checkpoints) -> None:
    targets = _targets()
    targets["weights"]["params"] = {"kernel": jax.ShapeDtypeStruct((7, 2), jnp.float32)}
    with pytest.raises(UserError, match="not the weights of this network"):
        five.restore_last(targets)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).restore_last(_targets()) is None
    with pytest.raises(UserError, match="train the run first"):
        Checkpoints(tmp_path).restore_best(_targets(), choose_by="dice")


def test_journal_is_cut_back_to_the_checkpoint_and_survives_a_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for step in (10, 20, 30):
        journal.append({"step": step, "dice": step / 100, "hd95_mm": float("nan")})
    with journal.path.open("a") as file:
        file.write('{"step": 40, "di')
    assert [row["step"] for row in journal.rows()] == [10, 20, 30]
    journal.keep_until(20)
    journal.append({"step": 25, "dice": 0.5, "hd95_mm": 3.0})
    assert [(row["step"], row["hd95_mm"]) for row in journal.rows()] == [(10, None), (20, None), (25, 3.0)]
    for line in journal.path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_folder_of_another_experiment_names_the_fields(tmp_path: Path) -> None:
    one = catalogue.load("dme_isles18", scale="small")
    run = runs.RunFolder(tmp_path / "run")
    run.start(one, {"data_fingerprint": "a"})
    run.start(overrides.override(one, {"training.epochs": 99}), {"data_fingerprint": "a"})  # longer is the same run
    assert run.experiment().training.epochs == 99
    with pytest.raises(UserError, match=r"optimiser\.learning_rate: 0\.003 there, 0\.5 now"):
        run.start(overrides.override(one, {"optimiser.learning_rate": 0.5}), {"data_fingerprint": "a"})
    with pytest.raises(UserError, match="other data"):
        run.start(one, {"data_fingerprint": "b"})


def test_a_run_folder_has_one_trainer_at_a_time(tmp_path: Path) -> None:
    first, second = runs.RunFolder(tmp_path), runs.RunFolder(tmp_path)
    with first.locked(), pytest.raises(UserError, match="another process is training"), second.locked():
        pytest.fail("two trainers in one folder")
    with second.locked():
        pass


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        runs.RunFolder(tmp_path).experiment()


def test_fresh_lies_beside(tmp_path: Path) -> None:
    assert runs.beside(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert runs.beside(tmp_path / "run") == tmp_path / "run-3"


def test_about_is_enough_to_repeat_a_run() -> None:
    about = runs.describe(device=sharding.describe(), seed=3, data={"data_fingerprint": "f", "phantom": True})
    assert {"jaxstroke", "python", "versions", "commit", "command", "device", "seed", "phantom"} <= about.keys()
    assert about["versions"]["jax"] == jax.__version__
    json.dumps(about)


def test_experiment_in_the_folder_is_the_one_that_ran(tmp_path: Path) -> None:
    one = dataclasses.replace(catalogue.load("dme_isles18"), scale="small")
    run = runs.RunFolder(tmp_path)
    run.start(one, {"data_fingerprint": "a"})
    assert run.experiment() == one


def _spoilt(path: Path, how: str) -> None:
    """Damages a file of a run folder."""
    text = path.read_text() if path.is_file() else ""
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a link to itself":
        path.symlink_to(path)
    else:
        deep = "[" * 100_000 + "]" * 100_000
        contents = {
            "not UTF-8": b"\xff\xfe" + text.encode(),
            "deep": (f'{{"data": {deep}}}' + "\n").encode(),
            "a list": b"[1, 2]\n",
            "a number": b"3\n",
            "no keys": b"{}\n",
            "wrong types": b'{"data": 3, "phantom": "no", "split": [1], "seed": {}, "versions": 1, "step": "x"}\n',
            "cut": text.encode()[: len(text) // 2] + b"\n",
            "one digit": text.replace("0", "1", 1).encode(),
        }
        path.write_bytes(contents[how])


@pytest.mark.parametrize(
    "how",
    ["a folder", "a pipe", "a link to itself", "not UTF-8", "deep", "a list", "a number", "no keys", "wrong types"]
    + ["cut", "one digit"],
)
@pytest.mark.parametrize("name", ["experiment.json", "about.json", "journal.jsonl"])
def test_a_damaged_file_of_a_run_folder_is_named_in_one_line(name: str, how: str, tmp_path: Path) -> None:
    run = runs.RunFolder(tmp_path / "run")
    split = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    data = {"data": "/there", "data_fingerprint": "f", "phantom": False, "split": split}
    run.start(catalogue.load("dme_isles18"), runs.describe(device={}, seed=0, data=data))
    run.journal.append({"step": 10, "epoch": 1, "dice": 0.5})
    read = {"experiment.json": run.experiment, "about.json": run.about, "journal.jsonl": run.journal.rows}[name]
    read()
    _spoilt(run.path / name, how)
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [True, 3, None, "a", {"a": 1}, ["a", 1], [["a"]]])
def test_a_run_that_names_no_list_of_studies_is_damaged(part: Any, tmp_path: Path) -> None:
    """Sealed anew, as whoever means harm would: the checksum is right, what it holds is not."""
    run = runs.RunFolder(tmp_path)
    split = {"train": ["a"], "validation": ["b"], "test": part}
    data = {"data": "/there", "data_fingerprint": "f", "phantom": False, "split": split}
    run.start(catalogue.load("dme_isles18"), runs.describe(device={}, seed=0, data=data))
    with pytest.raises(UserError, match=r"about\.json: it is damaged .split must name train, validation and test"):
        run.about()


def test_a_run_of_before_checksums_is_read(tmp_path: Path) -> None:
    run = runs.RunFolder(tmp_path)
    one = catalogue.load("mdanet_isles18")
    (tmp_path / "experiment.json").write_text(as_json.to_json(one))
    (tmp_path / "journal.jsonl").write_text('{"step": 10, "dice": 0.5, "hd95_mm": null}\n')
    assert run.experiment() == one and run.journal.rows() == [{"step": 10, "dice": 0.5, "hd95_mm": None}]
