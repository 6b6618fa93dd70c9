"""The bench: everything in turn, ratios the right way round, and a whole network measured at small scale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from jaxstroke import bench, sharding
from jaxstroke.benchmarks import pipeline
from jaxstroke.benchmarks.clock import Times, in_turn
from jaxstroke.errors import UserError
from jaxstroke.experiment import catalogue, overrides
from jaxstroke.training import program

ROOT = Path(__file__).parent.parent


def test_everything_is_timed_once_a_round_in_turn() -> None:
    order: list[str] = []
    times = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=1)
    assert order == ["a", "b", *["a", "b"] * 3]
    assert all(len(one.seconds) == 3 for one in times.values())


def test_times_are_what_was_slept() -> None:
    times = in_turn({"long": lambda: time.sleep(0.02), "short": lambda: None}, rounds=2)
    assert times["long"].best >= 0.02 > times["short"].best
    assert Times((0.3, 0.1, 0.2)).as_json() == pytest.approx({"best_ms": 100, "median_ms": 200, "worst_ms": 300})


def test_a_ratio_is_pytorchs_best_manner_of_one_precision_over_ours() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: there is nothing to hold ours against")
    from jaxstroke.benchmarks.against_torch import ratio

    times = {
        "jax": Times((4.0, 2.0)),
        "jax bfloat16": Times((0.5,)),
        "torch eager": Times((3.0, 5.0)),
        "torch channels-last": Times((9.0, 1.0)),
        "torch autocast": Times((0.25,)),
    }
    assert ratio(times) == pytest.approx(1.0 / 2.0)
    assert ratio(times, "jax bfloat16", "autocast") == pytest.approx(0.25 / 0.5)


def test_no_round_is_a_mistake() -> None:
    with pytest.raises(UserError, match="--rounds 0: at least 1 is needed"):
        bench.main(["--rounds", "0"])


def test_a_bench_that_is_interrupted_prints_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(name: str, args: object, peak: float) -> Iterator[dict[str, object]]:
        yield {"network": name}
        yield {"size": 8}
        if name == "mda_net":
            raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_measure", measure)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--json"])
    told = json.loads(capsys.readouterr().out)["networks"]
    assert told == [{"network": "unet", "size": 8}, {"network": "mda_net", "size": 8}]


@pytest.mark.slow
def test_a_subject_is_timed_after_steps_took_the_states_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSTROKE_CACHE", str(tmp_path))
    tiny = {"data.size": 16, "data.spacing_mm": 12.0, "model.width": 2, "data.batch": 4}
    experiment = overrides.override(catalogue.load("unet_isles18", scale="small"), tiny)
    state = program.build(experiment, sharding.make_mesh(), steps_per_epoch=1).first_state(0)
    subject = pipeline.Subject(pipeline.studies(experiment), state)
    jax.tree.map(lambda leaf: leaf.delete(), state)  # as a donated state is on a card
    assert subject.network_seconds(rounds=1) > 0
    stages = subject.stage_seconds(rounds=1)
    assert set(stages) == {"read", "prepare", "swap", "network", "restore", "write", "score"}


@pytest.mark.slow
@pytest.mark.torch
def test_what_is_asked_of_a_card_is_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    """`scripts/on_gpu` at small scale with one network: bench, parity, a training killed and resumed."""
    pytest.importorskip("torch", reason="PyTorch is not installed: there is nothing to hold ours against")
    words = [str(tmp_path), "--device", "cpu", "--scale", "small", "--network", "unet"]
    quickly = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"  # times are not looked at
    bare = {**os.environ, "XLA_FLAGS": quickly}
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "on_gpu"), *words], env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "report.md").read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["resume"]["resumed"] is True
    assert report["parity"]["unet"][0]["missed"] == []
    bench = report["bench"]["unet"]
    assert bench["device"]["platform"] == "cpu" and {"jax", "torch"} <= bench["versions"].keys()
    (line,) = bench["networks"]
    positive = ("train_step_ratio", "forward_ratio", "slices_per_second", "peak_share", "real_over_synthetic")
    assert all(line[name] > 0 for name in positive)
    assert line["peak_share"] < 1, "no more than the device can do"
    assert line["compile_from_cache_s"] < line["compile_s"]
    assert set(line["study_s"]) == {"read", "prepare", "swap", "network", "restore", "write", "score"}
    assert set(line["manners"]) == {"jax", "torch eager", "torch channels-last"}
    assert line["subject_of_22_slices_s"] > 0 and 0 < line["augmentation_share"] < 1
    assert f"| {line['manners']['jax']['train_step']['best_ms']:.1f} |" in (tmp_path / "report.md").read_text()
