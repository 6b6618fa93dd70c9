"""What a run computes depends on its experiment and its data alone: not on interruptions or devices."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxstroke import sharding, user_cache
from jaxstroke.data import stream
from jaxstroke.data.cache.building import build_cache
from jaxstroke.data.cache.format import Cache
from jaxstroke.data.source import open_source
from jaxstroke.data.splits import Split
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.pictures import strip
from jaxstroke.process import job
from jaxstroke.runs.folder import RunFolder
from jaxstroke.training import loop, program
from jaxstroke.training.display import Report
from jaxstroke.training.loop import NotFinite, Training
from jaxstroke.training.program import Program
from jaxstroke.training.stop_request import INTERRUPTED, REQUEUE
from jaxstroke.training.strip import Strip
from jaxstroke.training.trace import Trace

pytestmark = pytest.mark.slow  # each test trains or uses a network

TINY = {
    "data.size": 32,
    "data.spacing_mm": 6.0,
    "data.batch": 4,
    "data.depth": 2,
    "data.phantom_cases": 6,
    "model.width": 4,
    "model.spatial": False,
    "training.epochs": 3,
    "training.steps_per_epoch": 4,
    "training.slices_per_step": None,
    "training.patience_epochs": None,
}


@pytest.fixture(scope="module")
def tiny() -> Experiment:
    return overrides.override(catalogue.load("dme_isles18"), TINY)


@pytest.fixture(scope="module")
def prepared(tiny: Experiment) -> tuple[Cache, Split]:
    folder = user_cache.folder()
    source = open_source(tiny.data, None, folder)
    cache = build_cache(source.cases, tiny.data, folder / "prepared")
    names = [study.study for study in cache.studies]
    return cache, Split(tuple(names[:4]), tuple(names[4:5]), tuple(names[5:]))


class Interrupting(Report):
    """A report that sends this process a signal when a step is reached."""

    def __init__(self, events: Path, *, at: int, number: signal.Signals) -> None:
        super().__init__(events, phantom=True)
        self._at_step, self._number = at, number

    def stepped(self, step: int, loss: float, rate: float, images_per_second: float) -> None:
        super().stepped(step, loss, rate, images_per_second)
        if step == self._at_step:
            os.kill(os.getpid(), self._number)


_built: dict[tuple[str, int], Program] = {}


def _program(experiment: Experiment, steps_per_epoch: int) -> Program:
    """Built and traced once for all runs of an experiment; processes that build it anew are killed further below."""
    words = repr(experiment), steps_per_epoch
    if words not in _built:
        _built[words] = program.build(experiment, sharding.make_mesh(), steps_per_epoch=steps_per_epoch)
    return _built[words]


def _train(
    experiment: Experiment,
    prepared: tuple[Cache, Split],
    path: Path,
    report: Report | None = None,
    trace: Trace | None = None,
) -> Any:
    run = RunFolder(path)
    with report or Report(path / "events", phantom=True) as shown:
        steps = stream.steps_per_epoch(prepared[0], prepared[1].train, experiment)
        training = Training(_program(experiment, steps), *prepared, run, shown, trace)
        ending = training.run(training.start())
    return ending, run, training


def _bits(training: Training) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(training._state)]


@pytest.fixture(scope="module")
def whole(tiny: Experiment, prepared: tuple[Cache, Split], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that nothing interrupts, three of whose steps are traced, which those that it is compared with are not."""
    path = tmp_path_factory.mktemp("whole")
    return _train(tiny, prepared, path, trace=Trace(path / "profile", 5, 3))


def test_steps_are_traced_for_tensorboard_and_perfetto(whole: Any) -> None:
    _, run, _ = whole
    (folder,) = (run.path / "profile" / "plugins" / "profile").iterdir()
    (told,) = folder.glob("*.xplane.pb")
    assert told.stat().st_size > 1000
    with gzip.open(folder / "perfetto_trace.json.gz") as packed:
        events = json.load(packed)["traceEvents"]
    steps = [event["args"]["step_num"] for event in events if event.get("name", "") == "train"]
    assert sorted(map(int, steps)) == [5, 6, 7], "those that were asked for"


def test_a_trace_that_cannot_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="--profile 8:5: the run ends with step 12"):
        Trace(tmp_path, 8, 5).check(0, 12)
    Trace(tmp_path, 2, 5).check(4, 12)
    assert "--profile 2:5: 4 steps are done already; nothing is traced" in capsys.readouterr().err


def test_of_a_job_the_first_process_alone_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "first", lambda: False)
    trace = Trace(tmp_path / "profile", 0, 1)
    trace.before(0)
    trace.after(1, ())
    assert not (tmp_path / "profile").exists()


@dataclasses.dataclass
class _Step:
    """A step that writes down when it is lowered and compiled."""

    name: str
    told: list[str]

    def lower(self, *_: Any) -> _Step:
        return self

    def compile(self) -> str:
        self.told.append(self.name)
        return f"compiled {self.name}"


@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_processes_wait_for_each_other_when_all_is_compiled(
    how: str, tiny: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(job, "wait_for_all", lambda: told.append("wait"))
    built = program.build(overrides.override(tiny, {"parallel.map": how}), sharding.make_mesh(), steps_per_epoch=4)
    steps = {name: _Step(name, told) for name in ("train", "validate")}
    found = program.compiled(dataclasses.replace(built, **steps))
    assert found.validate == "compiled validate" and told[-1] == "wait"
    assert sorted(told[:-1]) == (["train", "validate"] if how == "jit" else ["validate"])
    assert found.train == ("compiled train" if how == "jit" else steps["train"])


def test_steps_compiled_beforehand_as_a_job_has_them_give_the_same_bits(
    whole: Any, tiny: Experiment, prepared: tuple[Cache, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Program] = []

    def compiled(given: Program) -> Program:
        asked.append(given)
        return program.compiled(given)

    as_of_two = types.SimpleNamespace(count=lambda: 2, first=lambda: True, wait_for_all=lambda: None)
    monkeypatch.setattr(loop, "job", as_of_two)
    monkeypatch.setattr(loop, "compiled", compiled)
    _, run, training = _train(tiny, prepared, tmp_path)
    assert len(asked) == 1
    for ours, theirs in zip(_bits(training), _bits(whole[2]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert run.journal.rows() == whole[1].journal.rows()


def test_a_run_to_its_end_leaves_a_journal_and_checkpoints(whole: Any, tiny: Experiment) -> None:
    ending, run, _ = whole
    assert (ending.step, ending.code) == (12, 0)
    rows = run.journal.rows()
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert all(np.isfinite(row["loss"]) and 0 <= row["dice"] <= 1 for row in rows)
    best = max(rows, key=lambda row: row["dice"])["step"]
    assert set(run.checkpoints().steps()) == {8, 12, best}


def test_the_same_run_again_gives_the_same_bits_and_a_strip_of_slices_does_not_change_them(
    whole: Any, tiny: Experiment, prepared: tuple[Cache, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert strip.told(whole[1].path / "strip.png")["epochs"] == [1, 2, 3]
    monkeypatch.setattr(Strip, "look", lambda *seen: None)
    monkeypatch.setattr(Strip, "grow", lambda *epochs: None)
    _, run, training = _train(tiny, prepared, tmp_path)
    assert not (tmp_path / "strip.png").exists()
    for one, other in zip(_bits(whole[2]), _bits(training), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.journal.rows() == whole[1].journal.rows()


@pytest.mark.parametrize("number, code", [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, REQUEUE)])
def test_interrupted_in_an_epoch_and_resumed_equals_never_interrupted(
    whole: Any, tiny: Experiment, prepared: tuple[Cache, Split], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The signal comes after step 1 of 4 and is heeded after step 2; the journal of the epoch is still exact."""
    ending, run, _ = _train(tiny, prepared, tmp_path, Interrupting(tmp_path / "events", at=1, number=number))
    assert (ending.code, ending.step) == (code, 2) and run.checkpoints().steps() == [2]
    ending, run, training = _train(tiny, prepared, tmp_path)
    assert ending.step == 12
    for one, other in zip(_bits(whole[2]), _bits(training), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.journal.rows() == whole[1].journal.rows()
    assert (run.path / "strip.png").read_bytes() == (whole[1].path / "strip.png").read_bytes()


def test_asked_to_stop_while_it_validates_it_validates_again_and_ends_the_same(
    whole: Any, tiny: Experiment, prepared: tuple[Cache, Split], tmp_path: Path
) -> None:
    class WhileValidating(Report):
        def note(self, text: str) -> None:
            super().note(text)
            if text == "validating":
                os.kill(os.getpid(), signal.SIGTERM)

    ending, run, _ = _train(tiny, prepared, tmp_path, WhileValidating(tmp_path / "events", phantom=True))
    assert (ending.code, ending.step) == (REQUEUE, 4)
    assert run.checkpoints().steps() == [4] and run.journal.rows() == []
    ending, run, training = _train(tiny, prepared, tmp_path)
    assert ending.step == 12
    for one, other in zip(_bits(whole[2]), _bits(training), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.journal.rows() == whole[1].journal.rows()
    assert run.checkpoints().progress(12) == whole[1].checkpoints().progress(12)


def test_a_finished_run_started_again_does_nothing(whole: Any, tiny: Experiment, prepared: tuple[Cache, Split]) -> None:
    _, run, _ = whole
    before = run.journal.rows()
    ending, _, _ = _train(tiny, prepared, run.path)
    assert ending.reason == "it had already run to its end" and run.journal.rows() == before


def test_patience_ends_a_run(tiny: Experiment, prepared: tuple[Cache, Split], tmp_path: Path) -> None:
    """Steps that are lost in rounding never lower the loss after the first epoch."""
    stuck = overrides.override(
        tiny, {"optimiser.learning_rate": 1e-30, "training.patience_epochs": 1, "training.epochs": 50}
    )
    ending, run, _ = _train(stuck, prepared, tmp_path)
    assert ending.epoch == 2 and "stopped falling" in ending.reason and len(run.journal.rows()) == 2
    ending, run, _ = _train(stuck, prepared, tmp_path)
    assert ending.epoch == 2 and len(run.journal.rows()) == 2, "started again it does not go on past its end"


def test_a_loss_that_is_not_finite_names_steps_and_studies_and_keeps_the_last_good_checkpoint(
    whole: Any, tiny: Experiment, prepared: tuple[Cache, Split], tmp_path: Path
) -> None:
    cache, split = prepared
    _train(overrides.override(tiny, {"training.epochs": 1}), prepared, tmp_path)
    poisoned = tmp_path / "cache"
    poisoned.mkdir()
    for path in cache.folder.iterdir():
        (poisoned / path.name).write_bytes(path.read_bytes())
    for study in split.train:
        images = np.load(poisoned / f"{study}.images.npy")
        np.save(poisoned / f"{study}.images.npy", np.full_like(images, np.nan))
    bad = dataclasses.replace(cache, folder=poisoned)
    with pytest.raises(NotFinite, match=r"the loss became nan in step 5 .*held case_\d.*the checkpoint of step 4 is"):
        _train(tiny, (bad, split), tmp_path)
    run = RunFolder(tmp_path)
    assert run.checkpoints().steps() == [4] and [row["step"] for row in run.journal.rows()] == [4]
    _, run, training = _train(tiny, prepared, tmp_path)  # with the data mended it goes on from there
    for one, other in zip(_bits(whole[2]), _bits(training), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_device_and_four_take_the_same_steps(tiny: Experiment, prepared: tuple[Cache, Split]) -> None:
    cache, split = prepared
    ends = []
    for count in (1, 4):
        mesh = sharding.make_mesh(jax.devices()[:count])
        built = program.build(tiny, mesh, steps_per_epoch=4)
        state = built.first_state(0)
        batches = stream.training_batches(cache, split.train, tiny.data, seed=0)
        losses = []
        for _ in range(5):
            state, figures = built.train(state, sharding.to_devices(next(batches), mesh))
            losses.append(float(figures["loss"]))
        # All weights as one vector: single biases that a normalisation cancels have no gradient but rounding.
        ends.append((losses, np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)])))
    (one_losses, one), (four_losses, four) = ends
    np.testing.assert_allclose(one_losses, four_losses, rtol=1e-5)
    assert np.linalg.norm(one - four) <= 1e-4 * np.linalg.norm(one)


def test_a_batch_that_does_not_divide_by_the_devices_names_sizes_that_do(
    tiny: Experiment, prepared: tuple[Cache, Split], tmp_path: Path
) -> None:
    experiment = overrides.override(tiny, {"data.batch": 6})
    with pytest.raises(UserError, match="data.batch=6: .* 4 devices; 4 or 8 would"):
        _train(experiment, prepared, tmp_path)


def test_killed_outright_and_started_again_equals_never_killed(whole: Any, tmp_path: Path) -> None:
    """The door itself, killed by SIGKILL as soon as it has a checkpoint, then started again with the same words."""
    words = [sys.executable, "-m", "jaxstroke.train", "--exp", "dme_isles18", "--out", str(tmp_path / "run")]
    for name, value in TINY.items():
        words += ["--set", f"{name}={'none' if value is None else value}"]
    words += ["--set", "data.folds=3"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}

    def final(path: Path) -> tuple[list[dict], list[np.ndarray]]:
        run = RunFolder(path)
        experiment = run.experiment()
        built = program.build(experiment, sharding.make_mesh(), steps_per_epoch=4)
        restored = run.checkpoints().restore_last(built.shapes.trees())
        assert restored is not None and restored.step == 12
        return run.journal.rows(), [np.asarray(leaf) for leaf in jax.tree.leaves(restored.trees)]

    unhurt = [*words[:6], str(tmp_path / "unhurt"), *words[7:]]
    subprocess.run(unhurt, env=environment, check=True, capture_output=True, timeout=300)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while not list((tmp_path / "run").glob("checkpoints/step-*/manifest.json")) and process.poll() is None:
            signal.sigtimedwait([], 0.05)
    finally:
        process.kill()
        process.communicate()
    again = subprocess.run(words, env=environment, check=True, capture_output=True, text=True, timeout=300)
    assert "resuming" in again.stdout or process.returncode == 0
    (rows, bits), (unhurt_rows, unhurt_bits) = final(tmp_path / "run"), final(tmp_path / "unhurt")
    assert json.dumps(rows) == json.dumps(unhurt_rows)
    for one, other in zip(bits, unhurt_bits, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_folder_that_is_removed_while_it_trains_ends_in_one_line(
    tiny: Experiment, prepared: tuple[Cache, Split], tmp_path: Path
) -> None:
    """It had ended with "all is in RUN" and code 0."""

    class Removing(Report):
        def stepped(self, step: int, loss: float, rate: float, images_per_second: float) -> None:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)

    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="run: the run folder was removed while it was trained in"):
        _train(tiny, prepared, tmp_path / "run", Removing(None, phantom=True))
    assert not (tmp_path / "run").exists()
