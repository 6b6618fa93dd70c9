"""What is printed to be typed is typed as the program was, and is true: every door's next command is run here."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxstroke import __main__ as front
from jaxstroke import command, compile, networks, phantom, train
from jaxstroke.compilation import compiling, roofline, targets
from jaxstroke.data.layouts import find_layout, folder_of, study_from_folder
from jaxstroke.data.splits import most_folds
from jaxstroke.experiment import catalogue
from jaxstroke.process import job
from jaxstroke.training import display
from jaxstroke.training.stop_request import REQUEUE

ROOT = Path(__file__).parent.parent
PYTHON = Path(sys.executable)


# --- as the program was called ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed, usage",
    [
        (["python", "-m", "jaxstroke.evaluate"], "python -m jaxstroke.evaluate"),
        (["python", "-m", "jaxstroke", "evaluate"], "python -m jaxstroke evaluate"),
        (["jaxstroke", "evaluate"], "jaxstroke evaluate"),
        ([str(PYTHON), "-m", "jaxstroke.evaluate"], "python -m jaxstroke.evaluate"),
    ],
)
def test_usage_names_the_program_as_it_was_called(typed: list[str], usage: str, tmp_path: Path) -> None:
    program = tmp_path / "jaxstroke"  # as an installation makes it
    program.write_text(f"#!{PYTHON}\nfrom jaxstroke.__main__ import main\nmain()\n")
    program.chmod(0o755)
    (tmp_path / "python").symlink_to(PYTHON)
    path = f"{PYTHON.parent if typed[0] == str(PYTHON) else tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["env", *typed, "--help"],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {usage} "), done.stdout


def test_a_program_that_the_shell_does_not_find_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["somewhere/bin/jaxstroke", "train"])
    assert command.words("evaluate") == [str(tmp_path / "somewhere/bin/jaxstroke"), "evaluate"]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "jaxstroke" / "train.py")])
    monkeypatch.setattr(sys, "orig_argv", ["somewhere/bin/python", "-m", "jaxstroke.train"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "somewhere/bin/python"))
    assert command.words("evaluate") == [str(tmp_path / "somewhere/bin/python"), "-m", "jaxstroke.evaluate"]


def test_the_child_of_a_watched_job_speaks_in_its_parents_name(monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, dict[str, str]] = {}

    class Child:
        stderr = io.BytesIO()

        def __init__(self, words: list[str], env: dict[str, str], **_: object) -> None:
            started["env"] = env

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(sys, "argv", ["/nowhere/jaxstroke", "train"])
    monkeypatch.setattr(job.subprocess, "Popen", Child)
    monkeypatch.setattr(job.signal, "signal", lambda *_: None)
    assert job.watch("train", []) == 0
    job.signals.unsaved.clear()
    monkeypatch.setattr(sys, "argv", [str(ROOT / "jaxstroke" / "train.py")])
    monkeypatch.setattr(os, "environ", started["env"])
    assert command.text("evaluate") == "/nowhere/jaxstroke evaluate"


# --- and true --------------------------------------------------------------------------------------------------------

TOY = [
    *(word for one in (
        "data.size=32", "data.spacing_mm=6", "data.batch=4", "model.width=2", "training.epochs=1",
        "training.steps_per_epoch=3", "training.validate_every_epochs=1", "augment.probability=0",
    ) for word in ("--set", one)),
]  # fmt: skip


def _next(capsys: pytest.CaptureFixture[str], also: str = "") -> list[str]:
    told = capsys.readouterr().out
    (line,) = [line for line in told.splitlines() if line.startswith("next: ")]
    assert also in told
    return shlex.split(line.removeprefix("next: "))


def _typed(words: list[str], *more: str) -> int | None:
    """Types a printed command, with words that make it small."""
    assert words[:1] == ["jaxstroke"], words
    return front.dispatch([*words[1:], *more])


@pytest.fixture
def as_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Called as `jaxstroke`, which the shell finds, in a folder of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "jaxstroke").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "jaxstroke").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "jaxstroke")])
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_from_a_phantom_on_each_next_command_runs(
    as_program: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three patients are fewer than the experiment's folds, and ISLES 2022 keeps a study in folders of folders.

    The training is stopped, and goes on in the folder that `--fresh` chose instead of choosing another one.
    """
    assert phantom.main(["--layout", "isles2022", "--cases", "3", "-o", "a phantom"]) == 0
    training = _next(capsys)
    assert training[-2:] == ["--set", "data.folds=3"]
    Path("my run").mkdir()
    stepped = display.Report.stepped

    def asked_to_stop(self: display.Report, *figures: float) -> None:
        stepped(self, *figures)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)

    more = ["--scale", "small", "--out", "my run", *TOY, "--fresh"]
    with monkeypatch.context() as patch:
        patch.setattr(display.Report, "stepped", asked_to_stop)
        assert _typed(training, *more) == REQUEUE
    again = _next(capsys)
    assert again == [*training, *more[:-1], "--out", "my run-2"]
    assert _typed(again) == 0
    judging = _next(capsys, "resuming my run-2 from step 2")
    assert judging == ["jaxstroke", "evaluate", "my run-2"]
    assert _typed(judging) == 0
    predicting = _next(capsys)
    assert predicting[:3] == ["jaxstroke", "predict", "my run-2"]
    assert _typed(predicting) == 0
    assert len(list((tmp_path / "predictions").glob("*_msk.nii.gz"))) == 1
    assert _next(capsys) == judging


def test_after_a_compilation_the_same_experiment_is_trained(
    as_program: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = roofline.roofline(targets.parse("cpu:8"), flops=1e9, traffic_bytes=1e9, sent_bytes=0)
    cost = compiling.Cost(1.0, 1e9, 1e9, 1e9, 1e9, 2**30, {}, {}, {}, 0, line)
    monkeypatch.setattr(targets, "prepare", lambda target: None)
    monkeypatch.setattr(compiling, "costs", lambda sized, target, programs, note: {"train": cost})
    named = ["--exp", "unet_isles18", "--scale", "small", "--set", "model.width=6"]
    assert compile.main([*named, "--target", "cpu:8"]) == 0
    words = _next(capsys)
    assert words == ["jaxstroke", "train", *named]
    assert train._experiment(train.parser().parse_args(words[2:])).model.options["width"] == 6


def test_networks_lead_to_the_experiments(as_program: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert networks.main(["--network", "tmax_6s"]) == 0
    assert _typed(_next(capsys)) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(catalogue.names())


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["isles2018", "isles2022", "two_reader"])
@pytest.mark.parametrize("cases", [1, 3])
def test_what_a_phantom_suggests_can_be_done_with_so_few_patients(
    layout: str, cases: int, as_program: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert phantom.main(["--layout", layout, "--cases", str(cases), "-o", "p"]) == 0
    words = _next(capsys)
    found = find_layout(layout)
    if words[1] == "predict":
        assert words[2:] == ["RUN", "p", "-o", "predictions"] and found.recognises(Path("p"))
    else:
        data = train._experiment(train.parser().parse_args(words[2:])).data
        patients = {case.study: case.patient for case in found.find(Path("p"))}
        assert most_folds(patients, data, fixed_test=found.fixed_test(Path("p"))) == data.folds
    for case in found.find(Path("p")):
        again = study_from_folder(folder_of(case, Path("p")), found)
        assert dict(again.images) == dict(case.images)
