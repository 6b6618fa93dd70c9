"""What is taken from inside JAX is where it was, and does what it did; nothing else is taken from there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxstroke.process import jax_internals

ROOT = Path(__file__).parent.parent
MOVED = f"JAX {jax.__version__} moved what jaxstroke/process/jax_internals.py takes from it; see there"


def test_compiled_programs_are_unpacked_as_jax_packs_them() -> None:
    try:
        packed = jax_internals.compress_executable(b"a program" * 100)
        unpacked = jax_internals.decompress_executable(packed)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{MOVED} ({error})")
    assert unpacked == b"a program" * 100
    with pytest.raises(Exception, match=r"."):
        jax_internals.decompress_executable(packed[: len(packed) // 2])


def test_the_processes_of_a_job_have_a_client_with_what_is_asked_of_it() -> None:
    """In a bare process: one job of one process."""
    with_client = (
        "import jax, socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]; s.close(); "
        "jax.distributed.initialize(f'127.0.0.1:{port}', 1, 0); "
        "from jaxstroke.process.jax_internals import coordination_client; client = coordination_client(); "
        "client.key_value_set('a/0', 'told'); client.wait_at_barrier('a', 1000); "
        "print(client.key_value_dir_get('a/')); jax.distributed.shutdown()"
    )
    found = subprocess.run([sys.executable, "-c", with_client], capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "[('a/0', 'told')]", f"{MOVED} ({found.stderr[-500:]})"


@pytest.mark.slow
def test_the_other_process_of_a_job_finds_what_the_first_one_compiled(tmp_path: Path) -> None:
    """Two turns of two processes; a machine of another kind finds nothing of theirs.

    The first process alone keeps what it compiles. The other one, where it comes late, finds what the first kept in the
    same turn, so that only the first one says whether a turn found anything of an earlier one.
    """
    first, second, elsewhere = (_hits(tmp_path, machine) for machine in ("one kind", "one kind", "another"))
    assert first[0] == 0 and second == [1, 1] and elsewhere[0] == 0, (MOVED, first, second, elsewhere)


def _hits(folder: Path, machine: str) -> list[int]:
    """How many compiled programs each process found of a sum over the devices of both."""
    program = f"""
import os
from jaxstroke.process import cores, job
cores.kind = lambda: {machine!r}
with job.joined():
    import jax, jax.numpy as jnp, numpy as np
    from jax import monitoring
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    sharding = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
    whole = jax.ShapeDtypeStruct((4 * jax.device_count(),), jnp.float32, sharding=sharding)
    found = []
    monitoring.register_event_listener(lambda name, **more: found.append(name) if name.endswith("cache_hits") else None)
    jax.jit(lambda x: (jnp.sin(x) * 3).sum()).lower(whole).compile()
    print(len(found), flush=True)
"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = {**os.environ, "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    shared |= {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    shared |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "PYTHONPATH": str(ROOT)}
    each = [{**shared, "JAX_PROCESS_ID": str(number)} for number in range(2)]
    words = [sys.executable, "-c", program]
    started = [subprocess.Popen(words, env=own, stdout=subprocess.PIPE, text=True) for own in each]
    return [int(one.communicate(timeout=120)[0].split()[-1]) for one in started]


def test_nothing_else_is_taken_from_inside_jax() -> None:
    folders = (ROOT / "jaxstroke", ROOT / "tests", ROOT / "scripts", ROOT / "experiments")
    inside = "jax." + "_src"
    found = [path for folder in folders for path in folder.rglob("*.py") if inside in path.read_text(encoding="utf-8")]
    assert [path.relative_to(ROOT).as_posix() for path in found] == ["jaxstroke/process/jax_internals.py"]
