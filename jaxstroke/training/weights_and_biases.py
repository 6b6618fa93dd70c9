"""The figures that TensorBoard gets, for Weights & Biases too: kept on this machine unless `WANDB_MODE` says otherwise.

Imported only where `train --wandb` asks for it.  They lie in `wandb/` of the run folder until `wandb sync` sends them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxstroke.errors import UserError

_OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}  # where nothing else is said


def check() -> None:
    """An error in one line where the package is missing, before data are prepared."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError("--wandb: wandb is not installed; install it with pip install 'jaxstroke[wandb]'")


class WeightsAndBiases:
    """One turn of a run; the turns of a run that was stopped share its group, and their steps go on."""

    def __init__(self, run: Path, settings: Mapping[str, Any], *, phantom: bool) -> None:
        for name, value in _OFFLINE.items():
            os.environ.setdefault(name, value)
        wandb = importlib.import_module("wandb")
        try:
            self._run = wandb.init(
                project="jaxstroke",
                group=run.name,
                name=f"{run.name}{' [phantom]' if phantom else ''}",
                dir=str(run),
                config={**settings, "phantom": phantom},
                save_code=False,
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise UserError(f"--wandb: it cannot begin ({error}); leave WANDB_MODE away, or --wandb") from None
        self._run.define_metric("*", step_metric="step")

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._run.log({name: value, "step": step})

    def close(self) -> None:
        self._run.finish()
