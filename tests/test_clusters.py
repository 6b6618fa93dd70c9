"""The scripts for clusters, with stand-ins for the scheduler's commands: what they start, and when they ask again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

import scripts
from jaxstroke.process import job, signals

ROOT = Path(__file__).parent.parent
MISTAKE = 2  # how a door ends that was asked for what cannot be
TRAIN, FOLDS = (ROOT / "scripts" / "slurm" / name for name in ("train.sbatch", "crossval.sbatch"))


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def cluster(folder: Path, training: str) -> dict[str, str]:
    """A checkout whose training is `training`, and a scheduler that writes down what it is told."""
    executable(folder / "scripts" / "setup", 'echo "setup $*" >>"$TOLD"')
    (folder / "scripts" / "slurm").mkdir(exist_ok=True)
    shutil.copy(TRAIN.parent / "environment", folder / "scripts" / "slurm")
    executable(folder / ".venv" / "bin" / "python", f'echo "python $*" >>"$TOLD"; {training}')
    executable(folder / "bin" / "srun", 'shift; "$@" & echo $! >step; wait $!')
    answers = 'case "$*" in "show hostnames"*) echo n1 ;; "show node"*) echo "   NodeAddr=10.0.0.1 NodeHostName=n1" ;;'
    answers += ' "show job"*) echo "   JobState=${STATE:-RUNNING} Reason=None" ;;'
    executable(folder / "bin" / "scontrol", f'{answers} *) echo "scontrol $*" >>"$TOLD" ;; esac')
    executable(folder / "bin" / "scancel", 'echo "scancel $*" >>"$TOLD"; kill -USR1 "$(cat step)"')
    return {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "TOLD": str(folder / "told"),
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
    }


@pytest.mark.parametrize("script, job", [(TRAIN, "7"), (FOLDS, "7_3")], ids=["train", "crossval"])
@pytest.mark.parametrize("code", [0, 2, signals.REQUEUE])
def test_only_a_job_that_was_stopped_asks_for_another_turn(script: Path, job: str, code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(script), "--exp", "mdanet_isles18"], env=cluster(tmp_path, f"exit {code}"), capture_output=True
    )
    assert done.returncode == code, done.stderr
    installed, *told = (tmp_path / "told").read_text().splitlines()
    assert installed == "setup cuda"
    assert told[0].startswith("python -m jaxstroke.train --exp mdanet_isles18")
    assert told[0].endswith("--fold 3") == (script == FOLDS)
    assert told[1:] == ([f"scontrol requeue {job}"] if code == signals.REQUEUE else [])


@pytest.mark.parametrize("script", [TRAIN, FOLDS], ids=["train", "crossval"])
def test_a_job_that_is_being_cancelled_does_not_ask_to_come_back(script: Path, tmp_path: Path) -> None:
    environment = {**cluster(tmp_path, f"exit {signals.REQUEUE}"), "STATE": "COMPLETING"}
    done = subprocess.run(["bash", str(script), "--exp", "x"], env=environment, capture_output=True)
    assert done.returncode == signals.REQUEUE and b"asks for no other turn" in done.stdout
    assert "requeue" not in (tmp_path / "told").read_text()


def test_what_a_job_installs_is_what_a_variable_says(tmp_path: Path) -> None:
    described = 'echo "$JAX_COORDINATOR_ADDRESS $JAXSTROKE_CACHE ${XLA_FLAGS:-none}" >"$TOLD.variables"'
    cases = {  # of the submitter's variables: what is set up, and what a mistake is called
        "cuda": ({}, "setup cuda", "--xla_gpu_enable_latency_hiding_scheduler=true"),
        "cpu": ({"JAXSTROKE_DEVICE": "cpu"}, "setup ", "none"),
        "own": ({"JAXSTROKE_DEVICE": "cpu", "XLA_FLAGS": "--own"}, "setup ", "--own"),
        "there": ({"JAXSTROKE_DEVICE": "tpu", "JAXSTROKE_ENV": str(tmp_path / "there" / ".venv")}, None, "none"),
    }
    for name, (variables, setup, flags) in cases.items():
        environment = cluster(tmp_path / name, described)
        for one in ("XLA_FLAGS", "JAXSTROKE_CACHE"):
            environment.pop(one, None)
        done = subprocess.run(["bash", str(TRAIN)], env={**environment, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told = (tmp_path / name / "told").read_text().splitlines()
        assert ([one for one in told if one.startswith("setup")] or [None]) == [setup]
        cache = tmp_path / name / ".cache" / "jaxstroke"
        assert (tmp_path / name / "told.variables").read_text() == f"10.0.0.1:61447 {cache} {flags}\n"
    for variables in ({"JAXSTROKE_DEVICE": "gpu"}, {"JAXSTROKE_ENV": "/nowhere"}):
        environment = {**cluster(tmp_path / "wrong", "true"), **variables}
        done = subprocess.run(["bash", str(TRAIN)], env=environment, capture_output=True, text=True)
        ((name, value),) = variables.items()
        assert done.returncode == 2 and f"error: {name}={value}: " in done.stderr


@pytest.mark.parametrize("script", [TRAIN, FOLDS], ids=["train", "crossval"])
def test_the_schedulers_signal_reaches_the_training_and_its_code_comes_back(script: Path, tmp_path: Path) -> None:
    training = f"trap 'exit {signals.REQUEUE}' USR1; touch begun; while true; do sleep 0.1; done"
    with subprocess.Popen(["bash", str(script), "--exp", "x"], env=cluster(tmp_path, training)) as started:
        until = time.monotonic() + 30
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.05)
        started.send_signal(signal.SIGUSR1)
        assert started.wait(timeout=30) == signals.REQUEUE
    assert "scontrol requeue 7" in (tmp_path / "told").read_text()


def test_the_jobset_starts_again_after_all_but_a_mistake() -> None:
    """A set starts a failed job again unless its own policy says otherwise, whatever made the job final."""
    spec = yaml.safe_load((ROOT / "scripts" / "kubernetes" / "jobset.yaml").read_text())["spec"]
    (policy,) = spec["failurePolicy"]["rules"]
    assert (policy["action"], policy["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    job = spec["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["containers"]
    assert rule["action"] == "FailJob" and job["backoffLimit"] == 0
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}


# Of jobset.x-k8s.io/v1alpha2 as it is published (its CustomResourceDefinition), what the file uses: the words
# that there are in each place.
_RULE = ("action", "name", "onJobFailureReasons", "targetReplicatedJobs")
_ACTIONS = ("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts")
_SPEC = ("coordinator", "failurePolicy", "managedBy", "network", "replicatedJobs", "startupPolicy", "successPolicy")
_REPLICATED = ("dependsOn", "groupName", "name", "replicas", "template")


def test_the_jobset_is_one_of_the_published_schema() -> None:
    jobset = yaml.safe_load((ROOT / "scripts" / "kubernetes" / "jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(jobset) == {"apiVersion", "kind", "metadata", "spec"} and set(jobset["spec"]) <= set(_SPEC)
    policy = jobset["spec"]["failurePolicy"]
    assert set(policy) <= {"maxRestarts", "restartStrategy", "rules"} and policy["maxRestarts"] > 0
    for rule in policy["rules"]:
        assert {"action", "name"} <= set(rule) <= set(_RULE) and rule["action"] in _ACTIONS
    for replicated in jobset["spec"]["replicatedJobs"]:
        assert {"name", "template"} <= set(replicated) <= set(_REPLICATED)


def test_the_jobsets_job_is_one_of_kubernetes_own_schema_to_the_last_word() -> None:
    jobset = yaml.safe_load((ROOT / "scripts" / "kubernetes" / "jobset.yaml").read_text())
    job_of_it = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}}
    job_of_it |= jobset["spec"]["replicatedJobs"][0]["template"]
    kubernetes_validate.validate(job_of_it, "1.37", strict=True)
    job_of_it["spec"]["template"]["spec"]["containers"][0]["resorces"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="resorces"):
        kubernetes_validate.validate(job_of_it, "1.37", strict=True)


def test_the_jobset_leaves_time_to_save_and_tells_a_mistake_from_all_else() -> None:
    """`Never`: a pod's end is the set's to judge, by its code; the time of grace is enough to save."""
    spec = yaml.safe_load((ROOT / "scripts" / "kubernetes" / "jobset.yaml").read_text())["spec"]
    pod = spec["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] > 2 * signals.GRACE_S
    (rule,) = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    final = rule["onExitCodes"]["values"]
    assert signals.REQUEUE not in final and job.PEER_GONE not in final
    assert final == [MISTAKE]


def test_the_jobset_gives_every_pod_what_the_launcher_is_recognised_by() -> None:
    jobset = yaml.safe_load((ROOT / "scripts" / "kubernetes" / "jobset.yaml").read_text())
    template = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = template["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value", "0") for one in container["env"]}  # the index comes from the pod
    told = job.launcher(variables)
    assert told is not None and told["num_processes"] == template["completions"] == template["parallelism"]
    host, port = told["coordinator_address"].split(":")
    assert host == f"{jobset['metadata']['name']}-train-0-0.{jobset['metadata']['name']}"
    assert int(port) == container["ports"][0]["containerPort"]


def test_a_step_spends_in_sums_the_moments_in_which_one_goes_on() -> None:
    """Of a trace by hand: two steps of 10 ms; sums from 2 to 5, 4 to 6, 12 to 13, and past the end."""
    script = scripts.load("weak_scaling")
    spans = [("train", 0, 10), ("train", 10, 20), ("fusion", 0, 20)]
    spans += [("all-reduce.1", 2, 5), ("all-reduce.7", 4, 6), ("all-reduce.1", 12, 13), ("all-reduce.7", 19, 22)]
    trace = [{"ph": "X", "name": name, "ts": first * 1e3, "dur": (last - first) * 1e3} for name, first, last in spans]
    assert script.read({"traceEvents": [{"ph": "M", "name": "train"}, *trace]}) == (10.0, (4 + 1 + 1) / 20, 2.0)
