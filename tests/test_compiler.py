"""What XLA is told: the settings are there for whoever imports the package, and what they mend is mended."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstroke import compiler

(SETTING,) = compiler.SETTINGS


@pytest.mark.parametrize(
    "before, after",
    [
        (None, f"{SETTING}="),
        ("--xla_dump_to=/tmp/x", f"--xla_dump_to=/tmp/x {SETTING}="),
        (f"{SETTING}=2", f"{SETTING}=2"),  # the user's word stands
        (f"{SETTING}=", f"{SETTING}="),
    ],
)
def test_what_the_user_set_stays(before: str | None, after: str) -> None:
    variables = {} if before is None else {"XLA_FLAGS": before}
    for _ in range(2):  # a process that was started by one that has them already
        compiler.apply_settings(variables)
        assert variables == {"XLA_FLAGS": after}


def test_sums_behind_a_small_product_are_right() -> None:
    """jax issue 39103: with the fusions on, jaxlib 0.10.2 answers 1071645696 or less, by the number of threads."""
    rows = np.zeros((32769, 3), np.float32)
    rows[:, 0] = np.arange(32769)
    small = jnp.eye(3)
    sums = jax.jit(lambda x: jax.vmap(lambda row: jnp.sum((small @ row) ** 2))(x))(rows)
    np.testing.assert_array_equal(np.asarray(sums), rows[:, 0] ** 2)


@pytest.mark.parametrize(
    "order", ["import jaxstroke, jax", "import jax, jaxstroke", "import jaxstroke.experiment, jax"]
)
def test_whoever_imports_the_package_computes_rightly(order: str) -> None:
    """In a bare process, without the tests' own settings, whichever of the two is imported first."""
    program = (
        f"{order}\nimport jax.numpy as jnp, numpy as np\n"
        "rows = np.zeros((32769, 3), np.float32); rows[:, 0] = np.arange(32769); m = jnp.eye(3)\n"
        "print(float(jax.jit(lambda x: jax.vmap(lambda r: jnp.sum((m @ r) ** 2))(x))(rows)[-1]))"
    )
    bare = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS" and not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**bare, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(32768.0**2), done.stderr
