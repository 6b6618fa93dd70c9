"""What every test stands on: several CPU devices, strict rank promotion, and no trace outside the checkout.

The environment is set before anything imports JAX, and test processes and the doors they start inherit it.
"""

import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent

os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling is most of what the tests do, and what is computed takes no time: so hardly anything is optimised.
# In one piece, for the other core runs other tests.
_QUICKLY_COMPILED = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=4 {_QUICKLY_COMPILED}"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["MPLBACKEND"] = "agg"
# Of two threads that wait for each other while other workers have the cores, each step of PyTorch takes twice as long.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("JAXSTROKE_DATA", None)

# Tracing makes millions of objects, of which few are garbage in circles: looking for those took a tenth of the time.
gc.set_threshold(200_000)

# A second run takes the programs from here.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(ROOT / ".cache" / "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, print_blob=False)
hypothesis.settings.load_profile("house")

_own_cache = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_configure(config: pytest.Config) -> None:
    """Phantoms and prepared studies of a test run live in a folder of that run, shared by its processes."""
    if not hasattr(config, "workerinput"):
        config.stash[_own_cache] = tempfile.TemporaryDirectory(prefix="jaxstroke-tests-")
        os.environ["JAXSTROKE_CACHE"] = config.stash[_own_cache].name


def pytest_unconfigure(config: pytest.Config) -> None:
    if _own_cache in config.stash:
        config.stash[_own_cache].cleanup()


@pytest.fixture(scope="module", autouse=True)
def _programs_end_with_their_file() -> Iterator[None]:
    """Programs traced and compiled by all files filled 5 GB a process; a file that took a moment leaves few."""
    begun = time.monotonic()
    yield
    if "jax" in sys.modules and time.monotonic() - begun > 10:
        import jax

        jax.clear_caches()
