"""Predictions as a BIDS derivative: what the folder is, and beside each mask what made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke import __version__, files
from jaxstroke.runs.folder import RunFolder
from jaxstroke.runs.place import state_of

BIDS_VERSION = "1.10.0"
WARNING = "Research software, not a medical device: nothing here may guide the care of a patient."


def describe(out: Path, told: Sequence[Mapping[str, Any]], runs: Sequence[RunFolder]) -> None:
    """`dataset_description.json`, a sidecar for each mask, and the files of ours that are no part of BIDS."""
    files.write_json(
        out / "dataset_description.json",
        {
            "Name": "Ischaemic stroke lesions predicted by jaxstroke",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "jaxstroke", "Version": __version__}],
        },
    )
    files.write_text(out / ".bidsignore", "predictions.json\nlesions.csv\n*.png\n*.dcm\n")
    made_by = [_run(run) for run in runs]
    for line in told:
        sidecar = {
            "Type": "Lesion",
            "Target": line["target"],
            "Runs": made_by,
            "Version": __version__,
            "Missing": line["missing"],
            "Warning": WARNING,
        }
        files.write_json(Path(line["mask"].removesuffix(".nii.gz") + ".json"), sidecar)


def _run(run: RunFolder) -> dict[str, Any]:
    """Network, run, the checksum of its weights, and the data that it was trained on."""
    about = run.about()
    return {
        "Network": run.experiment().name,
        "Run": run.path.absolute().name,
        "Checksum": state_of(run.path),
        "Data": about.get("data_fingerprint"),
        "TrainedOnPhantom": about["phantom"],
    }
