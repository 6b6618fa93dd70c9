"""A cluster's job that gets nowhere ends with one line; one that waits for its processes says for what and where."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxstroke import train
from jaxstroke.errors import UserError
from jaxstroke.process import job
from jaxstroke.runs import turns
from jaxstroke.runs.turns import Turn


def begin(run: Path, name: str, turn: int) -> Turn:
    now = turns.begun(run, Turn(name, turn))
    turns.check(run, now)
    turns.remember(run, now)
    return now


def save(run: Path, step: int) -> None:
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "manifest.json").touch()


def test_two_turns_without_a_new_checkpoint_are_the_last(tmp_path: Path) -> None:
    begin(tmp_path, "7", 0)
    assert begin(tmp_path, "7", 1).in_vain == 1
    with pytest.raises(UserError, match=r"2 turns of job 7, one after the other, brought no new checkpoint"):
        begin(tmp_path, "7", 2)
    assert begin(tmp_path, "8", 0).in_vain == 0  # submitted anew


def test_a_new_checkpoint_counts_anew_and_so_does_one_of_a_first_stage(tmp_path: Path) -> None:
    begin(tmp_path, "7", 0)
    assert begin(tmp_path, "7", 1).in_vain == 1
    save(tmp_path, 4)
    assert begin(tmp_path, "7", 2).in_vain == 0
    assert begin(tmp_path, "7", 3).in_vain == 1
    save(tmp_path / "stage1-0", 4)
    assert begin(tmp_path, "7", 4).in_vain == 0


def test_all_processes_of_a_turn_see_the_same_whenever_they_look(tmp_path: Path) -> None:
    begin(tmp_path, "7", 0)
    before = turns.begun(tmp_path, Turn("7", 1))
    turns.remember(tmp_path, before)
    save(tmp_path, 4)
    assert turns.begun(tmp_path, Turn("7", 1)) == before
    assert begin(tmp_path, "7", 0).in_vain == 0  # another job of the same name, as a JobSet that was made anew


def test_what_the_script_and_the_record_say_is_checked(tmp_path: Path) -> None:
    assert turns.this_turn({}) is None
    assert turns.this_turn({"JAXSTROKE_JOB": "7_3", "JAXSTROKE_TURN": "2"}) == Turn("7_3", 2)
    with pytest.raises(UserError, match="JAXSTROKE_TURN=second: a whole number"):
        turns.this_turn({"JAXSTROKE_JOB": "7", "JAXSTROKE_TURN": "second"})
    (tmp_path / turns.RECORD).write_text('{"job": "7"}')
    with pytest.raises(UserError, match=r"turns\.json: it does not describe the turn of a job; delete it"):
        begin(tmp_path, "7", 1)


def test_the_door_counts_before_it_does_anything_and_fresh_makes_one_folder_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn here ends by a mistake that is only seen later: data that are not there."""
    (tmp_path / "run").mkdir()
    words = ["--exp", "unet_isles18", "--out", str(tmp_path / "run"), "--fresh", "--data", str(tmp_path / "nowhere")]
    monkeypatch.setenv("JAXSTROKE_JOB", "7")
    for turn in (0, 1):
        monkeypatch.setenv("JAXSTROKE_TURN", str(turn))
        with pytest.raises(UserError, match="nowhere: there is no such folder"):
            train.main(words)
    monkeypatch.setenv("JAXSTROKE_TURN", "2")
    with pytest.raises(UserError, match=r"run-2: 2 turns of job 7, one after the other"):
        train.main(words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]


def test_a_process_whose_first_cannot_be_reached_says_so_in_time(tmp_path: Path) -> None:
    """JAX waits without the lock of Python's threads, so the thread that speaks is heard meanwhile."""
    variables = {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1", "JAX_COORDINATOR_ADDRESS": "nowhere.invalid:5000"}
    program = (
        "from jaxstroke.process import job; job._SAY_AFTER_S = 0.2\n"
        "with job.joined(): raise SystemExit('it has joined nobody')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stderr is not None
        line = started.stderr.readline()
        started.kill()
    assert line.startswith("waiting: process 1 on ") and "given up after 300 s" in line
    assert "waits for the first process at nowhere.invalid:5000: the name nowhere.invalid is not known there" in line


def test_what_is_waited_for_is_said_of_a_port_that_nobody_opened_and_of_others_that_do_not_come(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "_SAY_AFTER_S", 0.01)
    for name, value in {"JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as open_one:
        open_port = f"127.0.0.1:{open_one.getsockname()[1]}"
        for number, address, told in (
            ("1", "127.0.0.1:1", "waits for the first process at 127.0.0.1:1: it does not answer"),
            ("0", open_port, f"waits for the others at {open_port}: not all have come"),
            ("1", open_port, ""),
        ):
            monkeypatch.setenv("JAX_PROCESS_ID", number)
            with job._saying_what_is_waited_for(address):
                time.sleep(0.3)
            said = capfd.readouterr().err
            assert told in said and bool(said) == bool(told)


def test_who_starts_first_is_known_before_all_have_joined() -> None:
    assert job.starts_first({})
    plain = {"JAX_COORDINATOR_ADDRESS": "node1:5000", "JAX_NUM_PROCESSES": "4"}
    assert job.starts_first({**plain, "JAX_PROCESS_ID": "0"}) and not job.starts_first({**plain, "JAX_PROCESS_ID": "3"})
