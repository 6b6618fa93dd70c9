"""The processes of one job: who they are, who writes, how they wait for each other, and what becomes of them together.

A launcher (SLURM, MPI, a Kubernetes JobSet, a TPU slice) starts the same command several times; without one, there is
one process and every function here does nothing.  The first process speaks and writes; all read the same folders.
When one process dies, JAX notices within `_SILENT_AFTER_S` and aborts the others with a page of C++ symbols.  So each
process of a job is watched by a parent, which says in one line what happened; whether to start again is what the
process that died first ends with.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import cores, jax_internals, signals

_SILENT_AFTER_S = 8  # without a heartbeat a process counts as dead
_SAY_AFTER_S = 10  # without having found each other
_JOIN_WITHIN_S = 300  # for all processes to be started
_WAIT_MS = 24 * 3600 * 1000  # for the first process to prepare a data set, say; the dead are noticed before
_LEAVE_WITHIN_MS = 3000
_WATCHED = "JAXSTROKE_WATCHED"
_ABORTED = "Terminating process because the JAX distributed service detected fatal errors"

# Of several processes' codes a scheduler looks at the highest: whoever ended first says whether to start again.
PEER_GONE = 1

_NUMBERS = ("JAX_PROCESS_ID", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "TPU_WORKER_ID")  # who a process is

_asked = itertools.count()


def launcher(variables: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` must be told by the launcher's own variables; None where there is none.

    Plain variables come first: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID.  SLURM, Open MPI and TPU
    slices are recognised by what they set for a step of several tasks.
    """
    if "JAX_NUM_PROCESSES" in variables:
        processes = _whole_number(variables, "JAX_NUM_PROCESSES")
        if processes == 1:
            return None
        index = _whole_number(variables, "JAX_PROCESS_ID")
        address = variables.get("JAX_COORDINATOR_ADDRESS", "")
        if not 0 <= index < processes:
            raise UserError(f"JAX_PROCESS_ID={index}: processes are counted from 0 to {processes - 1}")
        if ":" not in address:
            raise UserError(
                f"JAX_COORDINATOR_ADDRESS={address}: the first process's host and a free port are needed, host:port"
            )
        return {"coordinator_address": address, "num_processes": processes, "process_id": index}
    if "SLURM_STEP_NODELIST" in variables and _whole_number(variables, "SLURM_NTASKS", default=1) > 1:
        return {"cluster_detection_method": "slurm"}
    if _whole_number(variables, "OMPI_COMM_WORLD_SIZE", default=1) > 1:
        return {"cluster_detection_method": "ompi"}
    if "," in variables.get("TPU_WORKER_HOSTNAMES", ""):
        return {}
    return None


def starts_first(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this will be the first process, as the launcher says it: `first` is known once all have joined."""
    return launcher(variables) is None or _number(variables) == "0"


def _number(variables: Mapping[str, str] = os.environ) -> str:
    return next((variables[one] for one in _NUMBERS if one in variables), "0")


def mute_all_but_first(variables: Mapping[str, str] = os.environ) -> None:
    """What every process of a job would say is said once, from the beginning on."""
    if not starts_first(variables):
        console.mute()


def _whole_number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"{name}={text}: a whole number is needed for a job of several processes") from None


# --- within a job ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Around what the processes of a job do together; the others learn soon when this one fails."""
    told = launcher()
    if told is None:
        yield
        return
    if _WATCHED in os.environ:
        _die_with_parent()
        _keep_stdout_to_python()
    import jax

    try:
        jax.config.update("jax_enable_preemption_service", False)  # signals are ours
        with _saying_what_is_waited_for(told.get("coordinator_address") or os.environ.get("JAX_COORDINATOR_ADDRESS")):
            jax.distributed.initialize(
                **told,
                initialization_timeout=_JOIN_WITHIN_S,
                heartbeat_timeout_seconds=_SILENT_AFTER_S,
                shutdown_timeout_seconds=_SILENT_AFTER_S,
            )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the processes of this job did not find each other ({reason})") from None
    jax_internals.name_programs_of_cpus_by(cores.kind())
    if not first():
        console.mute()
    try:
        yield
    except jax.errors.JaxRuntimeError:
        # Most often a peer died in the middle of a sum over devices; then JAX ends this process any moment.
        threading.Event().wait(2 * _SILENT_AFTER_S)
        raise
    except UserError as error:
        _leave("" if _said(str(error)) else f"error: {error}", 2)
    except (KeyboardInterrupt, signals.Stopped) as stop:
        _leave("asked to stop: nothing is half-written", signals.code_of(stop))
    jax.distributed.shutdown()


@contextlib.contextmanager
def _saying_what_is_waited_for(address: str | None) -> Iterator[None]:
    """Where the processes do not find each other soon: who waits for what, where, and what stands in the way."""
    found = threading.Event()

    def look() -> None:
        if found.wait(_SAY_AFTER_S):
            return
        here = f"process {_number()} on {socket.gethostname()}"
        trouble = "" if address is None else _out_of_reach(address)
        if trouble:
            text = f"{here} waits for the first process at {address}: {trouble}"
        elif starts_first():
            text = f"{here} waits for the others at {address or 'an address that JAX chose'}: not all have come"
        else:
            return  # the others wait as well; the first says so
        if not found.is_set():
            print(f"waiting: {text}; given up after {_JOIN_WITHIN_S} s", file=sys.stderr, flush=True)

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        found.set()


def _out_of_reach(address: str) -> str:
    """Why the first process's address cannot be reached from here; empty where it can."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SAY_AFTER_S).close()
    except socket.gaierror as error:
        return f"the name {host} is not known there ({error.strerror})"
    except (OSError, ValueError) as error:
        return f"it does not answer ({error})"
    return ""


def _said(text: str) -> bool:
    """Whether another process has just said the same: what all run into is told once."""
    name = f"jaxstroke/said/{zlib.crc32(text.encode())}"
    try:
        jax_internals.coordination_client().key_value_set(name, "")
    except RuntimeError as error:
        return "ALREADY_EXISTS" in str(error)
    return False


def _leave(text: str, code: int) -> None:
    """Ends the process; the others, which may be waiting for it, are only given time to run into the same."""
    if text:
        print(text, file=sys.stderr, flush=True)
    sys.stdout.flush()
    with contextlib.suppress(RuntimeError):
        jax_internals.coordination_client().wait_at_barrier("jaxstroke/leaving", _LEAVE_WITHIN_MS)
    if first():  # whom all talk to leaves last
        threading.Event().wait(0.5)
    os._exit(code)


def index() -> int:
    import jax

    return jax.process_index()


def count() -> int:
    import jax

    return jax.process_count()


def first() -> bool:
    return index() == 0


def gather(value: Any) -> list[Any]:
    """Every process's value (of JSON), in the order of the processes; all must ask, in the same order."""
    if count() == 1:
        return [value]
    client, folder = jax_internals.coordination_client(), f"jaxstroke/{next(_asked)}/"
    client.key_value_set(f"{folder}{index()}", json.dumps(value))
    client.wait_at_barrier(folder, _WAIT_MS)
    texts = {int(key.rpartition("/")[2]): text for key, text in client.key_value_dir_get(folder)}
    return [json.loads(texts[one]) for one in range(count())]


def broadcast_from_first(value: Any) -> Any:
    """The first process's value (of JSON), in every process."""
    return gather(value)[0]


def wait_for_all() -> None:
    gather(None)


@contextlib.contextmanager
def first_goes_first() -> Iterator[None]:
    """The others enter when the first process has left: what it wrote lies there for them."""
    if not first():
        wait_for_all()
    yield
    if first():
        wait_for_all()


# --- the parent that watches one process of a job --------------------------------------------------------------------


def needs_watching() -> bool:
    return launcher() is not None and _WATCHED not in os.environ


def watch(door: str, arguments: list[str]) -> int:
    """Runs the door in a child, hands signals on to it, and returns what this process should end with."""
    child = subprocess.Popen(
        [sys.executable, "-m", f"jaxstroke.{door}", *arguments],
        env={**os.environ, **command.environment(), _WATCHED: str(os.getpid())},
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C comes to this process alone, which hands it on
    )

    def hand_on(number: int, _: Any) -> None:
        child.send_signal(number)

    signals.unsaved.set()  # when this process ends is the child's to say
    before = {number: signal.signal(number, hand_on) for number in signals.CODES}
    assert child.stderr is not None
    with child.stderr:
        aborted = _hand_on_stderr(child.stderr)
    code = child.wait()
    for number, handler in before.items():  # who goes on after the child hears of signals again
        signal.signal(number, handler)
    signals.unsaved.clear()
    if aborted:
        print(
            "error: another process of this job ended or no longer answers; what it said tells why. "
            "Everything up to the last checkpoint is saved, and the same command goes on from there",
            file=sys.stderr,
        )
        return PEER_GONE
    if code < 0:
        print(f"error: the process was ended by {signal.Signals(-code).name}; start the job again", file=sys.stderr)
        return signals.REQUEUE if -code == signal.SIGKILL else 128 - code
    return code


def _hand_on_stderr(lines: IO[bytes]) -> bool:
    """Copies the child's lines but for the abort of a peer's death; says whether there was one."""
    aborted = False
    for line in without_runtime(lines):
        aborted = aborted or _ABORTED.encode() in line
        if not aborted:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
    return aborted


def without_runtime(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Leaves out the lines of JAX's coordination service and of Gloo.

    Gloo's threads write into each other's lines, which end with a count: what is left of one is a number by itself.
    """
    after_gloo = False
    for line in lines:
        gloo = b"[Gloo]" in line or b"peer ranks" in line
        after_gloo = gloo or (after_gloo and line.strip().isdigit())
        service = b"coordination_service" in line or b"CoordinationServiceError" in line
        if not after_gloo and not service:
            yield line


def _keep_stdout_to_python() -> None:
    """What C++ prints to stdout goes to stderr instead, where the parent leaves it out."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)


def _die_with_parent() -> None:
    """Ends this process when the parent that watches it is gone, killed outright for example."""
    parent = int(os.environ[_WATCHED])

    def look() -> None:
        while os.getppid() == parent:
            threading.Event().wait(1.0)
        os._exit(signals.REQUEUE)

    threading.Thread(target=look, daemon=True).start()
