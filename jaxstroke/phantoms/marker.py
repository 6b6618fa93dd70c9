"""The file that marks a folder's studies as computed, and what it says of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.files.sealed import unsealed

PHANTOM_FILE = "phantom.json"


def phantom_facts(root: Path) -> dict[str, Any] | None:
    """Reads the `phantom.json` that marks studies as computed; None without one.

    It lies in the data set's folder; `root` may also be that of a partition or of one study.
    """
    absolute = Path(os.path.abspath(root))
    for folder in (absolute, *absolute.parents[:2]):
        path = folder / PHANTOM_FILE
        if path.is_file():
            try:
                facts = files.read_json(path)
            except UserError as error:
                raise UserError(f"{error}; make the phantom anew") from None
            sealed_once = isinstance(facts, dict) and facts.keys() & {"files", "sha256"}
            if sealed_once and unsealed(facts) is None:
                raise UserError(f"{path}: it is damaged; make the phantom anew")
            if not isinstance(facts, dict) or not isinstance(facts.get("patients", {}), dict):
                raise UserError(f"{path}: it is not the description of a phantom; make the phantom anew")
            return facts
    return None


def phantom_patients(root: Path) -> dict[str, str]:
    """Patient by study where the folder holds a phantom; empty for real data."""
    patients = (phantom_facts(root) or {}).get("patients", {})
    return {str(study): str(patient) for study, patient in patients.items()}
