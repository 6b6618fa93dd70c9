"""What the XLA compiler is told before JAX starts: settings without which it computes wrongly here, or slowly.

`XLA_FLAGS` is read when JAX first looks for its devices, so importing `jaxstroke` before computing anything is enough.
A flag that stands in `XLA_FLAGS` already is the user's, and stays.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# The YNNPACK fusions of XLA's CPU compiler. jaxlib 0.10.2 computes wrong sums with them (jax issue 39103: a reduction
# behind a small product, .2 to .8 % off over 32,769 rows), 0.10.2 and 0.11 crash or hang (39257, 40412), and up to
# 0.12 they make a convolution's gradient two to four times as slow. Empty: none of them. Other devices ignore it.
SETTINGS = {"--xla_cpu_experimental_ynn_fusion_type": ""}


def apply_settings(variables: MutableMapping[str, str] = os.environ) -> None:
    """Adds to `XLA_FLAGS` what the user has not set there."""
    flags = variables.get("XLA_FLAGS", "").split()
    named = {flag.partition("=")[0] for flag in flags}
    missing = [f"{name}={value}" for name, value in SETTINGS.items() if name not in named]
    if missing:
        variables["XLA_FLAGS"] = " ".join([*flags, *missing])
