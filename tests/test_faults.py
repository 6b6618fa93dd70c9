"""What clusters do to jobs: every fault ends in one plain line, in time, and nothing that was saved is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxstroke.data.source import embedded_phantom, open_source
from jaxstroke.errors import UserError
from jaxstroke.experiment import catalogue, overrides
from jaxstroke.files import atomic
from jaxstroke.files.sealed import sealed, unsealed
from jaxstroke.phantoms import dataset
from jaxstroke.process import compiled_programs, jax_internals, signals
from jaxstroke.runs.folder import RunFolder
from jaxstroke.runs.journal import Journal

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "data.size": 32,
    "data.spacing_mm": 6.0,
    "data.batch": 4,
    "data.folds": 3,
    "model.width": 4,
    "training.steps_per_epoch": 4,
    "augment.probability": 0.0,
}
LINE_WITHIN_S = 10.0


# --- files and folders that are whole or not there -----------------------------------------------------------------


def test_what_a_dead_process_left_is_swept_and_what_another_writes_is_not(tmp_path: Path) -> None:
    (tmp_path / ".dead.json.0123abcd.tmp").write_text("half")
    (tmp_path / ".dead.0123abcd.tmp").mkdir()
    (tmp_path / ".hidden").write_text("a user's own")
    with atomic.whole_file(tmp_path / "alive.json") as file:
        file.write(b"{}")
        atomic.sweep(tmp_path)
        (writing,) = tmp_path.glob(".alive.json.*.tmp")
    assert {path.name for path in tmp_path.iterdir()} == {"alive.json", ".hidden"} and not writing.exists()


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic.whole_folder(tmp_path / "made") as unfinished:
        (unfinished / "file").write_text("half")
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())
    (tmp_path / ".made.0123abcd.tmp").mkdir()
    with atomic.whole_folder(tmp_path / "made") as unfinished:
        (unfinished / "file").write_text("whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "file"]


@pytest.mark.parametrize("bit", range(0, 8))
def test_a_sealed_tree_tells_every_flipped_bit(bit: int) -> None:
    text = json.dumps(sealed({"name": "step", "values": [1, 2.5, None]}), indent=1).encode()
    for place in range(len(text)):
        flipped = bytearray(text)
        flipped[place] ^= 1 << bit
        try:
            tree = json.loads(flipped)
        except ValueError:
            continue
        assert unsealed(tree) is None, bytes(flipped)


@pytest.mark.slow
def test_a_damaged_phantom_is_named_and_the_one_of_the_cache_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = overrides.override(catalogue.load("unet_isles18"), {"data.phantom_cases": 2}).data
    folder = embedded_phantom(data, tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(before) > 10 and dataset.damaged(folder) is None
    for path in (sorted(before)[0], folder / dataset.MARKER):
        content = bytearray(before[path])
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path}: it is (missing or )?damaged"):
            open_source(data, folder, tmp_path)
        capsys.readouterr()
        embedded_phantom(data, tmp_path)
        assert str(folder) in capsys.readouterr().err
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_compiled_program_that_was_half_written_is_removed_at_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, half = tmp_path / "jit_step-1-cache", tmp_path / "jit_step-2-cache"
    program = jax_internals.compress_executable(os.urandom(1000))
    whole.write_bytes(program)
    half.write_bytes(program[:-100])
    compiled_programs.remove_half_written(tmp_path)
    assert whole.exists() and not half.exists() and f"{half}: it is damaged, and removed" in capsys.readouterr().out
    half.write_bytes(program[:-100])  # after the last look
    compiled_programs.remove_half_written(tmp_path)
    assert whole.exists() and not half.exists() and str(half) in capsys.readouterr().out
    compiled_programs.remove_half_written(tmp_path / "nowhere")
    assert not capsys.readouterr().out


def test_a_damaged_line_of_the_journal_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for step in (1, 2, 3):
        journal.append({"step": step})
    journal.path.write_text(journal.path.read_text().replace('"step": 2', '"step" 2'))
    with pytest.raises(UserError, match=r"journal\.jsonl: line 2 is damaged; delete this line"):
        journal.rows()


class _StoppedWhenItGoes:
    """Where Python drops exceptions."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):
            pass


def test_a_signal_that_comes_in_a_destructor_is_not_lost() -> None:
    with pytest.raises(signals.Stopped), signals.watched():  # noqa: PT012
        one = _StoppedWhenItGoes()
        del one
        time.sleep(1)
        pytest.fail("the signal was dropped")


# --- the doors -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "phantom"
    dataset.generate("isles2018", cases=7, seed=1, folder=folder)
    return folder


class Door:
    """A door in a process of its own, its output in a file."""

    def __init__(self, log: Path, *words: str, cache: Path | None = None, begin_with: str = "") -> None:
        """`begin_with` is Python that the process runs first: forking with code in between does not go with JAX."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        environment["XLA_FLAGS"] = environment["XLA_FLAGS"].replace("device_count=4", "device_count=1")
        environment |= {"JAXSTROKE_CACHE": str(cache)} if cache else {}
        module = "import runpy, sys; sys.argv.pop(0); runpy.run_module(sys.argv[0], None, '__main__', True)"
        how = ["-c", f"{begin_with}; {module}"] if begin_with else ["-m"]
        self._log = log
        with log.open("w") as file:
            command = [sys.executable, *how, *words]
            self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=file, stderr=file)

    @property
    def told(self) -> str:
        return self._log.read_text()

    def wait_until(self, there: object) -> None:
        """Until `there()` is true; the process must still run then."""
        until = time.monotonic() + 300
        while not there() and self.process.poll() is None and time.monotonic() < until:  # type: ignore[operator]
            time.sleep(0.05)
        assert there() and self.process.poll() is None, self.told  # type: ignore[operator]

    def end(self, within_s: float = 300) -> int:
        try:
            return self.process.wait(within_s)
        finally:
            self.process.kill()
            self.process.wait()


def largest_file(size: int) -> str:
    """A limit on the size of files stands for a full disk: it fails in the middle of the writing."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


def training(phantom: Path, out: Path, *more: str, epochs: int = 2) -> list[str]:
    words = ["jaxstroke.train", "--exp", "unet_isles18", "--data", str(phantom), "--out", str(out)]
    words += ["--epochs", str(epochs)]
    return [*words, *(word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")), *more]


def saved(run: Path) -> list[Path]:
    return sorted(run.glob("checkpoints/step-*/manifest.json"))


def one_error_line(told: str) -> str:
    assert "Traceback" not in told, told
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture(scope="module")
def whole(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbs: two epochs."""
    folder = tmp_path_factory.mktemp("whole")
    door = Door(folder / "log", *training(phantom, folder / "run"))
    assert door.end() == 0, door.told
    return folder / "run"


@pytest.mark.slow
def test_damage_of_any_kind_is_named_at_the_door_and_the_run_ends_as_if_there_was_none(
    whole: Path, phantom: Path, tmp_path: Path
) -> None:
    """All kinds in turn on the newest checkpoint; each time the run goes on from the one before."""

    def truncate(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-100])

    step = saved(whole)[-1].parent.name
    run = tmp_path / "run"
    for damage, name in (
        (truncate, "manifest.json"),
        (lambda path: path.unlink(), "arrays/weights/manifest.ocdbt"),
        (lambda path: path.write_text("more"), "arrays/more"),
    ):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        path = run / "checkpoints" / step / name
        damage(path)
        door = Door(tmp_path / "log", *training(phantom, run))
        assert door.end() == 0, door.told
        assert f"warning: {path}" in door.told and "resuming" in door.told and "step 4" in door.told
        assert RunFolder(run).journal.rows() == RunFolder(whole).journal.rows()
        assert [path.parent.name for path in saved(run)] == [path.parent.name for path in saved(whole)]
        checkpoints = RunFolder(run).checkpoints()
        assert [checkpoints.damage(step) for step in checkpoints.steps()] == [None, None]


# The main thread does not hear of a signal, as while it compiles for minutes; a checkpoint is there by then.
LONG_VALIDATION = (
    "import time; from jaxstroke.training import validation; validation.Validation.run = lambda *_: time.sleep(99)"
)


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_the_run_goes_on_from_its_last_checkpoint(
    phantom: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    door = Door(tmp_path / "log", *training(phantom, run, epochs=500), begin_with=LONG_VALIDATION)
    door.wait_until(lambda: saved(run))
    door.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    door.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert door.end(5) == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 1
    checkpoints = RunFolder(run).checkpoints()
    last = checkpoints.steps()[-1]
    assert checkpoints.damage(last) is None
    again = Door(tmp_path / "again", *training(phantom, run, epochs=500))
    again.wait_until(lambda: f"resuming {run} from step {last}" in again.told)
    again.process.kill()
    again.end()


@pytest.mark.slow
def test_a_signal_in_a_long_computation_of_a_validation_loses_nothing(
    phantom: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    door = Door(tmp_path / "log", *training(phantom, run), begin_with=LONG_VALIDATION)
    door.wait_until(lambda: saved(run))
    begun = time.monotonic()
    door.process.send_signal(signal.SIGTERM)
    assert door.end() == signals.REQUEUE and time.monotonic() - begun < 15, door.told
    again = Door(tmp_path / "again", *training(phantom, run))
    assert again.end() == 0 and f"resuming {run} from step 4" in again.told, again.told
    assert RunFolder(run).journal.rows() == RunFolder(whole).journal.rows()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, signals.REQUEUE), (signal.SIGINT, signals.INTERRUPTED)])
def test_evaluate_and_predict_asked_to_stop_say_so_and_leave_nothing_half_written(
    whole: Path, phantom: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    door = Door(tmp_path / "log", "jaxstroke.predict", str(whole), str(phantom), "-o", str(out))
    door.wait_until(lambda: list(out.glob("*.png")))
    door.process.send_signal(number)
    begun = time.monotonic()
    assert door.end() == code and time.monotonic() - begun < LINE_WITHIN_S
    assert "Traceback" not in door.told and ("asked to stop" in door.told or "interrupted" in door.told)
    assert not list(out.glob(".*")) and not (out / "predictions.json").exists()
    door = Door(tmp_path / "log", "jaxstroke.evaluate", str(whole))
    door.wait_until(lambda: "judging" in door.told)
    door.process.send_signal(number)
    assert door.end() == code and "Traceback" not in door.told
    assert not list(whole.rglob(".*.tmp"))


@pytest.mark.slow
def test_a_file_too_large_for_its_disk_ends_a_checkpoint_in_one_line_and_the_run_goes_on_later(
    whole: Path, phantom: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = {path: path.read_bytes() for path in run.glob("checkpoints/step-*/**/*") if path.is_file()}
    door = Door(tmp_path / "log", *training(phantom, run, epochs=3), begin_with=largest_file(40_000))
    assert door.end() == 2, door.told
    (line,) = [line for line in door.told.splitlines() if line.startswith("error: ")]
    assert "the checkpoint cannot be written (File too large); the checkpoint of step 8 is in place" in line
    for path, content in before.items():
        assert path.read_bytes() == content
    assert len(saved(run)) == 2 and not (run / "checkpoints" / "step-00000012").exists()
    door = Door(tmp_path / "log", *training(phantom, run, epochs=3))
    assert door.end() == 0 and "from step 8" in door.told


@pytest.mark.slow
def test_no_space_for_a_prediction_or_a_prepared_study_is_one_line(whole: Path, phantom: Path, tmp_path: Path) -> None:
    door = Door(
        tmp_path / "log", "jaxstroke.predict", str(whole), str(phantom), "-o", str(tmp_path / "out"),
        begin_with=largest_file(10_000),
    )  # fmt: skip
    assert door.end() == 2 and "it cannot be written: File too large" in one_error_line(door.told)
    assert not list((tmp_path / "out").iterdir())
    cache = tmp_path / "cache"
    door = Door(tmp_path / "log", *training(phantom, tmp_path / "run"), cache=cache, begin_with=largest_file(2_000))
    assert door.end() == 2 and "it cannot be written: no space left?" in one_error_line(door.told)
    assert not list(cache.glob("prepared/*/.*"))


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "size"), [("checkpoints", "700k"), ("events", "4k")])
def test_a_full_disk_ends_a_training_in_one_line(phantom: Path, tmp_path: Path, what: str, size: str) -> None:
    (tmp_path / "run").mkdir()
    with small_disk(tmp_path / "small", size):
        (tmp_path / "run" / what).symlink_to(tmp_path / "small")
        door = Door(tmp_path / "log", *training(phantom, tmp_path / "run", epochs=100))
        assert door.end() == 2, door.told
    line = one_error_line(door.told)
    assert ("it needs" if what == "checkpoints" else "No space left") in line and "ree space there" in line


@pytest.mark.slow
def test_a_prepared_file_that_vanishes_during_training_is_named(phantom: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    door = Door(tmp_path / "log", *training(phantom, tmp_path / "run", epochs=500), cache=cache)
    door.wait_until(lambda: saved(tmp_path / "run"))
    for path in cache.glob("prepared/*/*.npy"):
        path.unlink()
    begun = time.monotonic()
    assert door.end() == 2 and time.monotonic() - begun < LINE_WITHIN_S
    assert "it cannot be read (No such file or directory)" in one_error_line(door.told)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line_at_every_door(whole: Path, phantom: Path, tmp_path: Path) -> None:
    """A file in place of the folder stands for a read-only one: permissions do not bind the superuser."""
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "file" / "out")
    for words in (
        training(phantom, Path(nowhere)),
        ["jaxstroke.predict", str(whole), str(phantom), "-o", nowhere],
        ["jaxstroke.phantom", "--layout", "isles2018", "--cases", "1", "-o", nowhere],
    ):
        door = Door(tmp_path / "log", *words)
        assert door.end() == 2 and nowhere in one_error_line(door.told)


@pytest.mark.slow
def test_a_study_that_vanishes_is_named_before_anything_is_judged(whole: Path, phantom: Path, tmp_path: Path) -> None:
    data = tmp_path / "phantom"
    shutil.copytree(phantom, data)
    study = json.loads((whole / "about.json").read_text())["split"]["test"][0]
    shutil.rmtree(data / "TRAINING" / study)
    door = Door(tmp_path / "log", "jaxstroke.evaluate", str(whole), "--data", str(data))
    assert door.end() == 2 and study in one_error_line(door.told)
