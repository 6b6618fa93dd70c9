"""Compiling for machines that are not there: targets, times, the largest batch that fits, and the door."""

from __future__ import annotations

import contextlib
import doctest
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from jaxstroke import compile as door
from jaxstroke import sharding
from jaxstroke.compilation import compiling, fitting, hlo, roofline, targets
from jaxstroke.compilation.targets import GIB, Chip, Target
from jaxstroke.errors import UserError
from jaxstroke.experiment import catalogue, overrides

ROOT = Path(__file__).parent.parent

# A network that compiles in seconds: a U-Net of width 2 on slices of 32 x 32.
TINY = {"data.size": 32, "data.batch": 4, "model.width": 2}
TINY_WORDS = [word for field, value in TINY.items() for word in ("--set", f"{field}={value}")]
TINY_DOOR = ["--exp", "unet_isles18", "--scale", "small", *TINY_WORDS]


@pytest.mark.parametrize("module", [hlo, roofline, door])
def test_examples_of_the_docstrings(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=900)


# --- targets and times -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "chips", "sends"),
    [
        ("tpu:v5e:2x4", 8, 100e9),  # lines of 2 and of 4: a corner has a link along each
        ("tpu:v5e:16x16", 256, 200e9),  # rings both ways: 4 links
        ("tpu:v4:2x2x2", 8, 150e9),
        ("tpu:v4:4x4x4", 64, 300e9),
        ("tpu:v4:2x2x1", 4, 100e9),
        ("cpu:64", 64, None),
    ],
)
def test_targets(word: str, chips: int, sends: float | None) -> None:
    target = targets.parse(word)
    assert (target.chips, target.sending_bandwidth) == (chips, sends)


@pytest.mark.parametrize("word", ["tpu:v5e:3x3", "tpu:v9:2x2", "cpu:0", "cpu:x", "cpu", "gpu:8", ""])
def test_an_unknown_target_is_told_which_exist(word: str) -> None:
    with pytest.raises(UserError, match=r"^--target .*there is no such target; these exist: .*tpu:v5e:2x4.*cpu:N"):
        targets.parse(word)


def test_the_number_of_cpu_devices_overrides_an_inherited_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false --xla_force_host_platform_device_count=4")
    targets.prepare(targets.parse("cpu:64"))
    flags = os.environ["XLA_FLAGS"].split()
    assert flags == ["--xla_cpu_enable_fast_math=false", "--xla_force_host_platform_device_count=64"]


def test_a_missing_tpu_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'jaxstroke\[tpu\]'"):
        targets.prepare(targets.parse("tpu:v5e:2x4"))


def test_times_by_hand() -> None:
    target = targets.parse("tpu:v5e:2x4")
    by_memory = roofline.roofline(target, flops=197e9, traffic_bytes=8.19e9, sent_bytes=1e9)
    assert by_memory is not None and by_memory.bound_by == "memory"
    assert by_memory.compute_s == pytest.approx(0.010)  # 1 ms of arithmetic, 10 ms of memory
    assert by_memory.sending_s == pytest.approx(0.010)
    assert by_memory.efficiency_without_overlap == pytest.approx(0.5)
    assert by_memory.efficiency_with_overlap == pytest.approx(1.0)
    by_flops = roofline.roofline(target, flops=197e10, traffic_bytes=0, sent_bytes=2e9)
    assert by_flops is not None and by_flops.bound_by == "FLOPs"
    assert by_flops.efficiency_with_overlap == pytest.approx(0.5)
    assert roofline.roofline(targets.parse("cpu:8"), flops=1, traffic_bytes=1, sent_bytes=1) is None


# --- the largest batch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need", [lambda n: 3.0 + 2.0 * n, lambda n: 0.4 * n**2, lambda n: 20.0 * math.log1p(n)])
@pytest.mark.parametrize("limit", [23.9, 31.0, 47.0])
@pytest.mark.parametrize("told", [True, False])
def test_the_largest_batch_is_the_largest(need: Any, limit: float, told: bool) -> None:
    most = 64
    expected = max((n for n in range(1, most) if need(n) <= limit), default=0)
    asked = []

    def need_bytes(count: int) -> float:
        asked.append(count)
        return need(count) if told or need(count) <= limit else math.inf

    assert need(most) > limit
    assert fitting.largest(need_bytes, limit, most, need(most) if told else math.inf) == expected
    assert len(asked) == len(set(asked)), "no batch is compiled twice"
    assert len(asked) <= 2 * math.log2(most)


def test_a_straight_line_takes_three_compilations() -> None:
    asked = []

    def need_bytes(count: int) -> float:
        asked.append(count)
        return 1e9 + 3e8 * count

    assert fitting.largest(need_bytes, 16e9, 1000, need_bytes(1000)) == 50
    assert asked[1:] == [1, 50, 51]


def test_nothing_fits() -> None:
    assert fitting.largest(lambda count: 100.0, 10.0, 8, 100.0) == 0
    assert fitting.largest(lambda count: 100.0, 10.0, 1, 100.0) == 0


def test_the_refusal_of_the_tpu_compiler_is_read() -> None:
    target = targets.parse("tpu:v5e:2x4")
    for message in (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
        "Used 35.25G of 15.75G hbm. Exceeded hbm capacity by 19.50G.",
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (35.25G) exceeds "
        "available HBM (15.75G).",
    ):
        told = compiling.exhausted(message, target)
        assert told is not None and (told.need_bytes, told.limit_bytes) == (35.25 * GIB, 15.75 * GIB)
    silent = compiling.exhausted("RESOURCE_EXHAUSTED: no figures", target)
    assert silent is not None and (silent.need_bytes, silent.limit_bytes) == (math.inf, 16 * GIB)
    assert compiling.exhausted("INTERNAL: something else", target) is None


@contextlib.contextmanager
def _silent(text: str) -> Iterator[None]:
    yield


def _tiny_target(memory_bytes: int) -> Target:
    """The CPU devices of this process, as chips of so much memory."""
    chip = Chip("made up", 1e12, memory_bytes, 1e11, 1e10, 4, ())
    return Target("made-up:4", sharding.make_mesh().size, chip, (4,))


@pytest.mark.slow
def test_what_does_not_fit_is_refused_with_the_largest_batch_that_does() -> None:
    mesh = sharding.make_mesh()
    experiment = overrides.override(catalogue.load("unet_isles18", scale="small"), TINY)
    needs = {}
    for per_chip in (2, 3):
        with_batch = compiling.with_batch(experiment, _tiny_target(GIB), per_chip)
        needs[per_chip] = compiling.cost("forward", with_batch, _tiny_target(GIB), mesh, _silent).memory_bytes
    assert needs[2] < needs[3]
    target = _tiny_target(needs[2])
    experiment = compiling.with_batch(experiment, target, 5)
    with pytest.raises(compiling.DoesNotFit) as refused:
        compiling.cost("forward", experiment, target, mesh, _silent)
    said = compiling.refusal("forward", experiment, target, mesh, refused.value, _silent)
    assert said.endswith("the largest batch that fits is 2 a chip (8 in all): --batch-per-chip 2")
    assert "forward with 5 a chip needs" in said
    hopeless = compiling.refusal("forward", experiment, _tiny_target(1), mesh, compiling.DoesNotFit(2.0, 1.0), _silent)
    assert "even 1 a chip does not fit" in hopeless


def test_pmap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = overrides.override(catalogue.load("unet_isles18"), {"parallel.map": "pmap"})
    with pytest.raises(UserError, match="parallel.map=pmap: only the jitted step"):
        compiling.costs(experiment, targets.parse("cpu:4"), compiling.PROGRAMS, _silent)


# --- the door --------------------------------------------------------------------------------------------------------


def test_the_batch_a_chip() -> None:
    experiment = overrides.override(catalogue.load("unet_isles18"), {"data.batch": 16})
    assert compiling.with_batch(experiment, targets.parse("cpu:8"), None).data.batch == 16
    assert compiling.with_batch(experiment, targets.parse("cpu:64"), None).data.batch == 64  # 1 a chip is the least
    assert compiling.with_batch(experiment, targets.parse("cpu:5"), None).data.batch == 20
    assert compiling.with_batch(experiment, targets.parse("cpu:8"), 3).data.batch == 24
    with pytest.raises(UserError, match="--batch-per-chip 0: at least 1"):
        compiling.with_batch(experiment, targets.parse("cpu:8"), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dme_isles18", "crossdomain_v1", "perfu_net_isles18", "unet3d_isles18"])
def test_the_shapes_of_a_batch_are_those_that_the_step_takes(name: str) -> None:
    """A clip, a slice, a series and a volume: the step accepts what is told of its batch."""
    experiment = catalogue.load(name, scale="small")
    function, arguments = compiling.program("forward", experiment, sharding.make_mesh())
    figures = jax.eval_shape(function, *arguments)
    assert figures["loss"].shape == ()


def test_a_long_compilation_gives_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(door, "_STILL_EVERY_S", 0.01)
    with door._waiting("compiling train"):
        ended = SimpleNamespace(seen="")
        while "still compiling" not in ended.seen:
            ended.seen += capsys.readouterr().err
    assert ended.seen.startswith("compiling train")


@pytest.mark.parametrize("target", ["tpu:v5e:2x4", "cpu:8"])
def test_what_a_person_reads(target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here = targets.parse(target)
    line = roofline.roofline(here, flops=3.25e11, traffic_bytes=2.95e9, sent_bytes=1e8)
    cost = compiling.Cost(61.2, 3.25e11, 2.95e9, 2.4e11, 3e10, 2 * GIB, {"all-reduce": 2}, {"all-reduce": 57_300_000},
                          {"all-reduce": 100_275_000.0}, 0, line)  # fmt: skip
    monkeypatch.setattr(targets, "prepare", lambda target: None)
    monkeypatch.setattr(compiling, "costs", lambda experiment, target, programs, note: {"train": cost})
    assert door.main(["--exp", "unet_isles18", "--target", target, "--only", "train"]) == 0
    said = capsys.readouterr()
    rows = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "batch: 2 a chip on 8 chips, 16 in all (data.batch of the experiment is 16)" in said.err
    assert {"compiles yes, in 61 s", "products 325 GFLOP", "memory traffic 2.95 GB"} <= set(rows)
    assert "all-reduce 2 of 57.3 MB, sends 100 MB" in rows
    assert rows[-1].startswith("next: ") and "jaxstroke.train --exp unet_isles18" in rows[-1]
    if target.startswith("tpu"):
        assert {"memory needed 2.00 GiB of 16 GiB", "roofline time 3.6 ms (memory)", "sending 1 ms"} <= set(rows)
        assert "efficiency 78.3 to 100.0 %" in rows
    else:
        assert {"memory needed 2.00 GiB", "roofline time -", "sending -", "efficiency -"} <= set(rows)
        assert any("no one peak" in row for row in rows)


@pytest.mark.slow
def test_the_door_on_cpu_devices() -> None:
    """Eight devices although the tests run on four; what is counted fits what the network is."""
    done = _python("-m", "jaxstroke.compile", *TINY_DOOR, "--target", "cpu:8", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["chips"], told["batch"], told["batch_per_chip"], told["own_batch"]) == (8, 8, 1, 4)
    assert told["chip"] is None and told["compiles"] is True
    train, forward = told["programs"]["train"], told["programs"]["forward"]
    assert train["roofline"] is None
    gradient = 4 * told["parameters"]
    # Beside the gradient go the statistics of batch normalisation, there and back, and the figures.
    assert gradient <= train["payload_bytes"]["all-reduce"] < 1.5 * gradient
    assert train["sent_bytes"]["all-reduce"] == pytest.approx(2 * 7 / 8 * train["payload_bytes"]["all-reduce"])
    assert 2 < train["flops"] / forward["flops"] < 3  # backward is twice forward, but for the images of the first layer
    assert train["memory_bytes"] > forward["memory_bytes"] > 0
    assert train["unknown_loops"] == 0


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install 'jaxstroke[tpu]'")
def test_the_door_with_the_tpu_compiler() -> None:
    done = _python("-m", "jaxstroke.compile", *TINY_DOOR, "--target", "tpu:v5e:2x4", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    train = told["programs"]["train"]
    gradient = 4 * told["parameters"]
    assert gradient <= train["payload_bytes"]["all-reduce"] < 1.5 * gradient
    line = train["roofline"]
    assert line["compute_s"] > 0 and line["sending_s"] == pytest.approx(train["sent_bytes"]["all-reduce"] / 100e9)
    assert 0 < line["efficiency_without_overlap"] < line["efficiency_with_overlap"] <= 1
    assert train["memory_bytes"] < 16 * GIB and told["versions"]["libtpu"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--exp", "nothing", "--target", "cpu:8"], "no such experiment"),
        (["--exp", "unet_isles18", "--target", "tpu:v5e:5x5"], "no such target"),
        (["--exp", "unet_isles18", "--target", "cpu:4", "--batch-per-chip", "0"], "--batch-per-chip 0"),
        (["--exp", "unet_isles18", "--target", "cpu:4", "--set", "data.bach=4"], "data.batch"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "prepare", lambda target: None)
    with pytest.raises(UserError, match=said) as told:
        door.main(words)
    assert "\n" not in str(told.value)
