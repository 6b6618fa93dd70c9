"""Many devices and many processes: the same training, whatever shares it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chex
import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from jaxstroke import sharding, train
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data, Experiment, catalogue, overrides
from jaxstroke.models import apply
from jaxstroke.models.nn.blocks import ConvNormAct, LogitHead
from jaxstroke.models.outputs import Outputs
from jaxstroke.pictures import strip
from jaxstroke.process import job, signals
from jaxstroke.runs.folder import RunFolder
from jaxstroke.schedules import build_optimiser, learning_rate
from jaxstroke.training import state as states
from jaxstroke.training import step as steps

ROOT = Path(__file__).parent.parent
EXPERIMENT = "unet_isles18"  # batch normalisation, whose statistics are of the whole batch
TINY = {
    "data.size": 16,
    "data.batch": 4,
    "data.phantom_cases": 6,
    "data.folds": 3,
    "model.width": 2,
    "training.epochs": 4,
    "training.steps_per_epoch": 5,
    "optimiser.learning_rate": 1e-5,  # float32 sums in another order differ: small steps keep that small
    # Measured, one device against four: with random changes the loss of two steps differed by 5e-5 and 3e-5, as where a
    # pixel falls either way with a rounding (not shown which); without, an epoch's mean by 7e-7.  That changes are the
    # same on any devices is asked in test_augment.
    "augment.probability": 0.0,
}


def words(out: Path, *more: str, **changes: object) -> list[str]:
    sets = [word for field, value in {**TINY, **changes}.items() for word in ("--set", f"{field}={value}")]
    return ["--exp", EXPERIMENT, "--out", str(out), *sets, *more]


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves() -> dict[str, dict]:
    """Twenty steps in every way, in a process with eight devices."""
    program = ROOT / "tests" / "steps_on_devices.py"
    done = subprocess.run([sys.executable, str(program), EXPERIMENT], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[EXPERIMENT]


WAYS = ("jit 4", "pmap 8", "shares 4", "remat 1")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_same_twenty_steps_on_any_number_of_devices(way: str, curves: dict[str, dict]) -> None:
    alone, shared = curves["jit 1"], curves[way]
    np.testing.assert_allclose(shared["losses"], alone["losses"], rtol=1e-5)
    for name in ("weights", "average"):
        one, other = np.array(alone[name]), np.array(shared[name])
        assert np.linalg.norm(other - one) / np.linalg.norm(one) < 1e-4, name
    lag = np.linalg.norm(np.array(alone["average"]) - alone["weights"]) / np.linalg.norm(alone["weights"])
    assert lag > 1e-3, "the running mean is not the last weights"
    assert max(alone["losses"]) - min(alone["losses"]) > 1e-2  # it did train


@pytest.mark.slow
def test_a_sharded_optimiser_keeps_a_share_on_each_device(curves: dict[str, dict]) -> None:
    whole, share = (curves[way]["optimiser_bytes_a_device"] for way in ("jit 4", "shares 4"))
    assert whole / 4 <= share < whole / 4 * 1.1  # what 4 does not divide stays whole


def test_a_batch_that_does_not_divide_names_those_that_would() -> None:
    mesh = sharding.make_mesh()
    assert mesh.size == 4
    sharding.check_batch(8, mesh)
    sharding.check_batch(8, mesh, 2)
    with pytest.raises(UserError, match="data.batch=6: it must divide by the 4 devices; 4 or 8 would"):
        sharding.check_batch(6, mesh)
    with pytest.raises(UserError, match="data.batch=12: .* 4 devices in 2 microbatches; 8 or 16 would"):
        sharding.check_batch(12, mesh, 2)


def test_pmap_and_a_sharded_optimiser_exclude_each_other() -> None:
    both = {"parallel.map": "pmap", "parallel.shard_optimiser": True}
    with pytest.raises(UserError, match="parallel.shard_optimiser=true: it needs parallel.map=jit"):
        overrides.override(catalogue.load(EXPERIMENT, scale="small"), both)


def _optimiser(experiment: Experiment) -> optax.GradientTransformation:
    return build_optimiser(
        experiment.optimiser, learning_rate(experiment.schedule, experiment.optimiser, steps_per_epoch=1, epochs=100)
    )


def _small(name: str, **changes: object) -> Experiment:
    small = {"data.size": 16, "data.batch": 8, "model.width": 2, **changes}
    return overrides.override(catalogue.load(name, scale="small"), small)


def _batch(data: Data, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    shape = (count, *apply.example_shape(data))
    masks = (draw.random((*shape[:-1], len(data.targets))) < 0.2).astype(np.float32)
    return {
        "images": draw.normal(size=shape).astype(np.float32) + masks[..., :1],
        "masks": masks,
        "distance": draw.normal(size=masks.shape).astype(np.float32),
        "index": np.arange(count),
        "valid": np.ones((count, *apply.valid_shape(data)), bool),
    }


@pytest.mark.slow
def test_a_batch_in_microbatches_is_the_mean_over_them() -> None:
    """GroupNorm, losses that are means over examples, no random changes: then its microbatches make the batch."""
    changes = {"data.size": 32, "data.depth": 2, "model.width": 4, "augment.probability": 0.0}
    experiment = _small("dme_isles18", **changes)
    network = apply.build(experiment)
    optimiser = _optimiser(experiment)
    batch, ended = _batch(experiment.data, 8), []
    for microbatches in (1, 2):
        experiment = overrides.override(experiment, {"parallel.microbatches": microbatches})
        state = states.create(network, optimiser, experiment.data, seed=0)
        state, figures = jax.jit(steps.train_step(experiment, network, optimiser))(state, batch)
        ended.append((float(figures["loss"]), float(figures["gradient_norm"]), state))
    (loss, norm, one), (loss_of_two, norm_of_two, other) = ended
    assert loss_of_two == pytest.approx(loss, rel=1e-5) and norm_of_two == pytest.approx(norm, rel=1e-3)
    assert int(other.step) == int(one.step) == 1


class OneBlock(nn.Module):
    """The least network with batch normalisation."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        return Outputs(LogitHead(1)(ConvNormAct(4)(images, train=train)))


def test_batch_normalisation_sees_one_microbatch_at_a_time() -> None:
    """Loss and statistics are those of the microbatches taken alone, in turn, and not of the whole batch."""
    whole = _small(EXPERIMENT, **{"augment.probability": 0.0})
    halved = overrides.override(whole, {"parallel.microbatches": 2})
    network, optimiser = OneBlock(), _optimiser(whole)
    batch = _batch(whole.data, 8)
    batch["images"][1::2] *= 4  # a microbatch takes every other row
    state = states.create(network, optimiser, whole.data, seed=0)
    at_once, in_two = (jax.jit(steps.train_step(one, network, optimiser)) for one in (whole, halved))
    (of_all, all_figures), (of_two, two_figures) = at_once(state, batch), in_two(state, batch)

    losses, alone = [], state
    for first in (0, 1):
        half = {name: rows[first::2] for name, rows in batch.items()}
        after, figures = at_once(state.replace(batch_stats=alone.batch_stats), half)
        losses, alone = [*losses, float(figures["loss"])], after
    assert float(two_figures["loss"]) == pytest.approx(np.mean(losses), rel=1e-6)
    chex.assert_trees_all_close(of_two.batch_stats, alone.batch_stats, rtol=1e-5)

    norms = float(two_figures["gradient_norm"]), float(all_figures["gradient_norm"])
    assert abs(norms[0] / norms[1] - 1) > 1e-2, "which rounding does not do"
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), of_two.batch_stats, of_all.batch_stats)
    assert max(jax.tree.leaves(apart)) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cascade_isles18", "crossdomain_v1", "dme_isles18", "mdanet_isles18"])
def test_in_bfloat16_weights_statistics_losses_and_answers_stay_float32(name: str) -> None:
    experiment = _small(name, **{"data.size": 32, "model.width": 4, "model.dtype": "bfloat16"})
    network = apply.build(experiment)
    optimiser = _optimiser(experiment)
    state = states.abstract(network, optimiser, experiment.data)
    batch = jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, _batch(experiment.data, 4)))
    new, figures = jax.eval_shape(steps.train_step(experiment, network, optimiser), state, batch)
    floats = [leaf for leaf in jax.tree.leaves((new, figures)) if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)]
    assert {leaf.dtype.name for leaf in floats} == {"float32"}
    key = jax.random.key(0)
    outputs, _ = jax.eval_shape(
        lambda state, batch: apply.train_forward(network, state.variables(), batch, experiment.data, key), state, batch
    )
    assert outputs.logits.dtype == "float32"
    text = str(jax.make_jaxpr(steps.train_step(experiment, network, optimiser))(state, batch))
    products = [line for line in text.splitlines() if "= conv_general_dilated[" in line]
    assert any(":bf16[" in line for line in products)  # and the arithmetic is narrow


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet_isles18"])
def test_rematerialisation_keeps_less_between_the_passes(name: str) -> None:
    kept = {}
    for remat in (False, True):
        experiment = _small(name, **{"data.size": 16, "model.width": 2, "model.remat": remat})
        network, data = apply.build(experiment), experiment.data
        state = states.create(network, _optimiser(experiment), data, seed=0)
        batch = _batch(data, 4)

        def loss(params: object, network=network, data=data, state=state, batch=batch, remat=remat) -> jax.Array:
            variables = {"params": params, "batch_stats": state.batch_stats}
            outputs, _ = apply.train_forward(network, variables, batch, data, jax.random.key(0), remat=remat)
            return outputs.logits.sum()

        _, backward = jax.vjp(loss, state.params)
        kept[remat] = sum(leaf.nbytes for leaf in jax.tree.leaves(backward) if hasattr(leaf, "nbytes"))
    assert kept[True] < 0.7 * kept[False]


# --- the launcher's variables ----------------------------------------------------------------------------------------


def test_processes_are_joined_only_where_a_launcher_says_so() -> None:
    plain = {"JAX_COORDINATOR_ADDRESS": "node1:5000", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    told = {"coordinator_address": "node1:5000", "num_processes": 4, "process_id": 3}
    assert job.launcher(plain) == told
    assert job.launcher({}) is None
    assert job.launcher({**plain, "JAX_NUM_PROCESSES": "1"}) is None
    slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
    assert job.launcher(slurm) == {"cluster_detection_method": "slurm"}
    assert job.launcher({**slurm, "SLURM_NTASKS": "1"}) is None
    batch_script = {name: value for name, value in slurm.items() if name != "SLURM_STEP_NODELIST"}
    assert job.launcher(batch_script) is None  # inside sbatch, outside srun
    assert job.launcher({"OMPI_COMM_WORLD_SIZE": "2"}) == {"cluster_detection_method": "ompi"}
    assert job.launcher({"TPU_WORKER_HOSTNAMES": "a,b"}) == {}
    assert job.launcher({"TPU_WORKER_HOSTNAMES": "localhost"}) is None


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID=4: processes are counted from 0 to 3"),
        ({"JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID=one: a whole number"),
        ({"JAX_COORDINATOR_ADDRESS": "node1"}, "JAX_COORDINATOR_ADDRESS=node1: .* host:port"),
    ],
)
def test_variables_that_make_no_sense_are_named(wrong: dict[str, str], told: str) -> None:
    plain = {"JAX_COORDINATOR_ADDRESS": "node1:5000", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    with pytest.raises(UserError, match=told):
        job.launcher({**plain, **wrong})


def test_what_the_runtime_says_is_left_out_and_a_number_that_is_ours_is_not() -> None:
    gloo = [b"[Gloo] Rank [Gloo] Rank 01 is connected to  is connected to 11 peer ranks.\n", b"1\n", b"1\n"]
    service = [b"E0000 coordination_service_agent.cc:42] Polled an error\n"]
    ours = [b"42\n", b"Traceback (most recent call last):\n", b"7\n"]
    assert list(job.without_runtime([ours[0], *gloo, ours[1], *service, ours[2]])) == ours


# --- processes that really talk --------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def started(arguments: list[str], count: int = 2) -> Iterator[list[subprocess.Popen[str]]]:
    """`count` processes with two devices each; what is left of them at the end is killed."""
    shared = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}",
        "JAX_NUM_PROCESSES": str(count),
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2"),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "jaxstroke.train", *arguments],
            env={**os.environ, **shared, "JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        for number in range(count)
    ]
    try:
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()


def ended(one: subprocess.Popen[str], within_s: float = 300) -> tuple[int, str]:
    told, _ = one.communicate(timeout=within_s)
    return one.returncode, told


def weights(run: Path) -> np.ndarray:
    experiment = RunFolder(run).experiment()
    network = apply.build(experiment)
    shapes = jax.eval_shape(lambda key: apply.initialise(network, experiment.data, key), jax.random.key(0))
    target = sharding.with_shardings(shapes, sharding.local_sharding())
    restored = RunFolder(run).checkpoints().restore_last({"weights": target})
    assert restored is not None
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(restored.trees)])


def test_processes_that_are_asked_to_stop_at_different_moments_stop_after_the_same_step() -> None:
    """Two processes and steps of nothing; one of them is signalled during its sixth step, the other never."""
    address = f"127.0.0.1:{_free_port()}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2")
    both = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "stop_together.py"), address, str(number)],
            env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    told = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    found = [json.loads(out.splitlines()[-1]) for out, _ in told]  # Gloo has its say before
    assert found[0] == found[1] == {"stopped_after": found[0]["stopped_after"], "code": signals.REQUEUE}
    assert 6 <= found[0]["stopped_after"] <= 8  # what is told after a step is read two steps later


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process on four devices."""
    path = tmp_path_factory.mktemp("alone") / "run"
    assert train.main(words(path)) == 0
    return path


def assert_same_run(one: Path, other: Path) -> None:
    rows, others = (RunFolder(path).journal.rows() for path in (one, other))
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    np.testing.assert_allclose([row["loss"] for row in rows], [row["loss"] for row in others], rtol=1e-5)
    np.testing.assert_allclose(
        [row["validation_loss"] for row in rows], [row["validation_loss"] for row in others], rtol=1e-4
    )
    first, second = weights(one), weights(other)
    assert np.linalg.norm(first - second) / np.linalg.norm(first) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"parallel.map": "pmap"}, {"parallel.shard_optimiser": True}], ids=str)
def test_two_processes_train_as_one_does_and_one_of_them_writes(
    how: dict[str, object], alone: Path, tmp_path: Path
) -> None:
    with started(words(tmp_path / "run", **how)) as (first, second):
        code, told = ended(first)
        assert code == 0, told
        code_of_second, told_of_second = ended(second)
    assert code_of_second == 0 and told_of_second.strip() == "", told_of_second
    assert_same_run(alone, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "about.json").read_text())
    assert about["device"]["processes"] == 2 and about["device"]["count"] == 4
    assert len(list((tmp_path / "run" / "events").iterdir())) == 1
    epochs = [row["epoch"] for row in RunFolder(tmp_path / "run").journal.rows()]
    assert strip.told(tmp_path / "run" / "strip.png")["epochs"] == epochs


@pytest.mark.slow
def test_one_signal_stops_all_processes_and_one_process_goes_on(alone: Path, tmp_path: Path) -> None:
    """And so a run is restored on another number of processes and devices."""
    run = tmp_path / "run"
    with started(words(run)) as (first, second):
        _wait_for_a_checkpoint(run, [first, second])
        second.send_signal(signal.SIGTERM)  # to one of them alone
        codes = [ended(one)[0] for one in (first, second)]
    assert codes == [signals.REQUEUE] * 2
    stopped = RunFolder(run).checkpoints().steps()[-1]
    assert 5 <= stopped <= 20
    assert train.main(words(run)) == 0
    assert_same_run(alone, run)


def _wait_for_a_checkpoint(run: Path, started: list[subprocess.Popen[str]], within_s: float = 240) -> None:
    until = time.monotonic() + within_s
    while not RunFolder(run).checkpoints().steps():
        if time.monotonic() > until or any(one.poll() is not None for one in started):
            for one in started:
                one.kill()
            pytest.fail("no checkpoint came: " + " --- ".join(one.communicate()[0] for one in started))
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_a_dead_process_ends_the_others_within_seconds_in_one_line(dead: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started(words(run, **{"training.epochs": 500})) as processes:
        _wait_for_a_checkpoint(run, processes)
        killed_at = time.monotonic()
        _kill_outright(processes[dead].pid)
        code, told = ended(processes[1 - dead], within_s=60)
        took_s = time.monotonic() - killed_at
        code_of_dead, told_by_dead = ended(processes[dead], within_s=60)
    assert code == job.PEER_GONE
    errors = [line for line in told.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "another process of this job ended" in errors[0], told
    assert "Traceback" not in told and "@ " not in told
    assert took_s < 15  # noticed within ten seconds; the rest is this machine's
    assert code_of_dead == signals.REQUEUE and "ended by SIGKILL" in told_by_dead
    assert RunFolder(run).checkpoints().steps()  # nothing of what was saved is lost


def _kill_outright(watching: int) -> None:
    """Kills the child that trains, not the parent that watches it."""
    children = Path(f"/proc/{watching}/task/{watching}/children")
    if not children.exists():
        pytest.skip("this kernel does not list a process's children")
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGKILL)


@pytest.mark.slow
def test_a_mistake_is_told_once_and_ends_all(tmp_path: Path) -> None:
    with started(words(tmp_path / "run", **{"data.batch": 6})) as processes:
        ends = [ended(one, within_s=120) for one in processes]
    told = "".join(text for _, text in ends)
    assert told.count("data.batch=6: it must divide by the 4 devices; 4 or 8 would") == 1
    assert [code for code, _ in ends] == [2, 2]
