"""The scripts for SLURM on a real one, of two nodes on this machine: cancelling, dead nodes, mistakes, arrays."""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from test_parallel import assert_same_run, words

import scripts
from jaxstroke.runs.folder import RunFolder

ROOT = Path(__file__).parent.parent
REHEARSE = ROOT / "scripts" / "slurm" / "rehearse"
TRAIN, FOLDS = (f"scripts/slurm/{name}.sbatch" for name in ("train", "crossval"))
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1")
ON_DEVICES = os.environ["XLA_FLAGS"].replace("device_count=4", "device_count={}")
LONG = 100_000  # epochs: until the test gives another number
CHANGES: dict[str, Any] = {"training.steps_per_epoch": 10, "optimiser.learning_rate": 1e-6}


rehearsal: Any = scripts.load("slurm/rehearse")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(rehearsal.missing()), reason=rehearsal.missing() or "it is here"),
]


class Job:
    """A job that was submitted with an environment of its own, whose Python adds `--epochs` as the test says."""

    def __init__(
        self,
        slurm: Any,
        folder: Path,
        script: str,
        options: tuple[str, ...],
        epochs: int,
        *more: str,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.slurm, self.run, self.folder = slurm, folder / "run", folder
        self.give(epochs)
        python = folder / "environment" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@" --epochs "$(cat {folder}/epochs)"\n')
        python.chmod(0o755)
        shared = {
            "JAXSTROKE_DEVICE": "cpu",
            "JAXSTROKE_ENV": str(folder / "environment"),
            "XLA_FLAGS": ON_DEVICES.format(1),
            "PYTHONPATH": str(ROOT),
            **variables,
        }
        log = f"--output={folder}/log"
        (folder / "scripts").symlink_to(ROOT / "scripts")
        self.number = slurm.submit(folder, *options, log, script, *more, **shared)

    def give(self, epochs: int) -> None:
        (self.folder / "epochs").write_text(str(epochs))

    @property
    def told(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def until(self, what: Callable[[], Any], within_s: float = 300) -> None:
        until = time.monotonic() + within_s
        while not what():
            state = self.slurm.job(self.number)
            assert time.monotonic() < until, (state, self.told)
            time.sleep(0.2)

    def until_saved(self) -> None:
        self.until(lambda: RunFolder(self.run).checkpoints().steps())

    def wait(self, within_s: float = 300) -> dict[str, str]:
        try:
            return self.slurm.wait(self.number, within_s)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{self.slurm.job(self.number)}\n{self.told}") from None

    def ended(self) -> list[tuple[str, str]]:
        """Of each of its turns the state that followed and the highest exit code of its steps until then."""
        return [(one.state, one.highest) for one in self.slurm.ended() if one.job == self.number]


def training(slurm: Any, folder: Path, variables: Mapping[str, str] = MappingProxyType({}), **changes: Any) -> Job:
    arguments = words(folder / "run", **{**CHANGES, **changes})
    return Job(slurm, folder, TRAIN, TWO_NODES, LONG, *arguments, variables=variables)


def last_epoch(run: Path) -> int:
    return RunFolder(run).checkpoints().steps()[-1] // CHANGES["training.steps_per_epoch"]


def a_cancelled_job_saves_and_is_not_started_again(slurm: Any, folder: Path) -> None:
    """In the middle of its first epoch: what is saved then is saved because it was cancelled."""
    job = training(slurm, folder, **{"training.steps_per_epoch": LONG})
    job.until(lambda: re.search(r"training on phantoms: [1-9]", job.told))
    assert not RunFolder(job.run).checkpoints().steps()
    slurm.run("scancel", job.number)
    # The queue would show one that comes back.
    job.until(lambda: job.number not in slurm.run("squeue", "--noheader", "--format=%i").stdout.split())
    ended = slurm.job(job.number)
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0"), job.told
    checkpoints = RunFolder(job.run).checkpoints()
    (step,) = checkpoints.steps()
    assert 0 < step < LONG and checkpoints.damage(step) is None
    assert "it was asked to stop; everything is saved" in job.told


def a_job_whose_time_is_up_comes_back_and_ends_as_one_process_does(slurm: Any, folder: Path) -> None:
    """Over two nodes, through a limit and a second turn: the steps, losses and weights of one undisturbed process.

    The second turn finds every program that the first kept, and keeps no other. (Process 0 alone keeps programs; what
    the other one compiles again on a CPU does not show here.)
    """
    compiled = folder / "compiled"
    kept = {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    job = training(slurm, folder, kept)
    job.until_saved()
    minutes = _elapsed_minutes(slurm.job(job.number)["RunTime"])
    # One to two minutes are left: the script's signal is due, and there is time to save.
    _limit(slurm, job, minutes + 2)
    job.until(lambda: slurm.job(job.number).get("Restarts") == "1")
    _limit(slurm, job, minutes + 60)
    programs = {path.name for path in compiled.glob("*-cache")}
    epochs = last_epoch(job.run) + 2
    job.give(epochs)
    ended = job.wait()
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), job.told
    assert "everything is saved; asking for another turn" in job.told
    assert re.search(rf"resuming {job.run} from step \d+", job.told)
    assert programs and {path.name for path in compiled.glob("*-cache")} == programs

    alone = folder / "alone"
    command = [sys.executable, "-m", "jaxstroke.train", *words(alone, **CHANGES), "--epochs", str(epochs)]
    done = subprocess.run(command, env={**os.environ, "XLA_FLAGS": ON_DEVICES.format(2)}, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert_same_run(alone, job.run)


def _limit(slurm: Any, job: Job, minutes: int) -> None:
    done = slurm.run("scontrol", "update", f"JobId={job.number}", f"TimeLimit={minutes}")
    assert done.returncode == 0, done.stderr


def _elapsed_minutes(run_time: str) -> int:
    """Of what the queue writes: [days-]hours:minutes:seconds."""
    days, _, clock = run_time.rpartition("-")
    hours, minutes, _ = clock.split(":")
    return 1440 * int(days or 0) + 60 * int(hours) + int(minutes)


def a_job_goes_on_after_one_of_its_nodes_died(slurm: Any, folder: Path) -> None:
    job = training(slurm, folder)
    job.until_saved()
    slurm.kill_node("n2")
    job.until(lambda: slurm.job(job.number).get("Restarts") == "1" or slurm.job(job.number)["JobState"] == "FAILED")
    job.give(last_epoch(job.run) + 2)
    slurm.start_node("n2")
    ended = job.wait()
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), job.told
    assert re.search(rf"resuming {job.run} from step \d+", job.told)


def a_mistake_is_told_and_not_started_again(slurm: Any, folder: Path) -> None:
    job = training(slurm, folder, **{"data.batch": 3})
    ended = job.wait()
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0"), job.told
    assert job.told.count("data.batch=3: it must divide by the 2 devices") == 1


def an_array_trains_each_fold_in_a_folder_of_its_own(slurm: Any, folder: Path) -> None:
    options = ("--array=0-1", "--gpus=0", "--cpus-per-task=1")
    arguments = [word for word in words(folder / "run") if word not in ("--out", str(folder / "run"))]
    job = Job(slurm, folder, FOLDS, options, 1, *arguments)

    def states() -> list[str]:
        return re.findall(r"JobState=(\w+)", slurm.run("scontrol", "show", "job", job.number).stdout)

    job.until(lambda: not {"PENDING", "RUNNING", "COMPLETING"} & set(states()))
    assert states() == ["COMPLETED"] * 2, job.told
    folders = [folder / "runs" / name for name in ("unet_isles18", "unet_isles18-fold-1")]
    assert [RunFolder(folder).experiment().data.fold for folder in folders] == [0, 1]
    assert all(RunFolder(folder).checkpoints().steps() for folder in folders)


LIVES = (
    a_job_whose_time_is_up_comes_back_and_ends_as_one_process_does,
    a_job_goes_on_after_one_of_its_nodes_died,
    a_cancelled_job_saves_and_is_not_started_again,
    a_mistake_is_told_and_not_started_again,
    an_array_trains_each_fold_in_a_folder_of_its_own,
)
AT_ONCE = 3  # nine tenths of a life is waiting for SLURM


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, concurrent.futures.Future[None]]]:
    """All of them, side by side; the one that loses a node has a SLURM of its own."""
    at_once = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    with rehearsal.slurm() as shared, rehearsal.slurm(first_job=1001) as broken, at_once:
        begun = {}
        for life in LIVES:
            slurm = broken if life is a_job_goes_on_after_one_of_its_nodes_died else shared
            begun[life.__name__] = at_once.submit(life, slurm, tmp_path_factory.mktemp("life"))
        yield begun


@pytest.mark.parametrize("life", [life.__name__ for life in LIVES])
def test_of_a_job(life: str, lives: dict[str, concurrent.futures.Future[None]]) -> None:
    lives[life].result()


def test_nothing_is_left_of_a_rehearsal_that_was_killed() -> None:
    """Neither its processes nor its folder; the one that watches it ends them within seconds."""
    words = [sys.executable, str(REHEARSE), "sh", "-c", "srun -N2 sleep 1000 & echo $SLURM_CONF; sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert "SLURM is up" in started.stdout.readline()
        configuration = started.stdout.readline().strip()
        time.sleep(1)
        started.kill()
    until = time.monotonic() + 20
    variables = {f"SLURM_CONF={configuration}"}
    left = [configuration]
    while left and time.monotonic() < until:
        time.sleep(0.2)
        left = [*rehearsal._processes(variables, Path(configuration)), *Path(configuration).parent.glob("*")]
    assert not left
