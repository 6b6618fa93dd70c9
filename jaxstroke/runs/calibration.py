"""What `calibrate` found for a run and wrote beside it: how its probabilities are scaled and become a mask.

calibration.json                 form, sealed with its checksum: the fields below, and what they were chosen by and
                                 gained
calibration-of-N-runs-....json   the same for the mean of the run and others (`inference.members` names it)
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from jaxstroke import __version__, command, files
from jaxstroke.errors import UserError
from jaxstroke.experiment import Evaluation
from jaxstroke.experiment.fields import Amount, CountOrNone, Fraction, Group
from jaxstroke.experiment.values import Range
from jaxstroke.files import formats

FILE = "calibration.json"


@dataclasses.dataclass(frozen=True)
class Rule(Group):
    """From probabilities to a mask: what lies above `threshold`, without lesions smaller than `smallest_lesion_ml`, and
    of these the largest alone with `largest_component`."""

    threshold: Fraction = 0.5
    smallest_lesion_ml: Amount = 0.0
    largest_component: bool = False

    @classmethod
    def of(cls, evaluation: Evaluation) -> Rule:
        """The rule of an experiment, which removes nothing for its size."""
        return cls(evaluation.threshold, 0.0, evaluation.largest_component)

    def __str__(self) -> str:
        smallest = f", lesions of {self.smallest_lesion_ml:g} mL or more" if self.smallest_lesion_ml else ""
        return f"above {self.threshold:.4g}{smallest}{', the largest alone' if self.largest_component else ''}"


@dataclasses.dataclass(frozen=True)
class Calibration(Group):
    """Attributes:
    weights_of_step: the weights that all of it was chosen with; it does not hold for others. Of several runs the
      first's.
    mirrored: whether mirrored copies took part.
    temperature: see `metrics.temperature`.
    rule: on probabilities after the temperature.
    level, residuals: of the validation studies by target, for `metrics.conformal`.
    seen: the least and the most of each figure of `inference.unlike`, in training.
    """

    weights_of_step: CountOrNone
    mirrored: bool
    temperature: Annotated[float, Range(0.01, 100.0)]
    rule: Rule
    level: Fraction = 0.9
    residuals: Mapping[str, tuple[Amount, ...]] = dataclasses.field(default_factory=dict)
    seen: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


def read(run: Path, file: str = FILE) -> Calibration | None:
    """What was found for a run; None where nothing was."""
    path = run / file
    if not os.path.lexists(path):
        return None
    tree = files.read_sealed(path)
    formats.check(path, tree, newest=formats.CALIBRATION, what="calibration")
    try:
        return Calibration(**{**_fields(Calibration, tree), "rule": Rule(**_fields(Rule, tree["rule"]))})
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"{path}: it is damaged ({error}); {_again()}") from None


def read_for(run: Path, step: int) -> Calibration | None:
    """The same, for the weights of a step; what was chosen with other weights is an error."""
    found = read(run)
    if found is not None and found.weights_of_step != step:
        raise UserError(
            f"{run / FILE}: it was chosen with the weights of step {found.weights_of_step}, and the best are now those "
            f"of step {step}; {_again()}"
        )
    return found


def write(run: Path, found: Calibration, chosen: Mapping[str, Any], file: str = FILE) -> Path:
    """Writes it into the run folder; `chosen` says by what it was chosen and what it gained."""
    tree = {formats.KEY: formats.CALIBRATION, "jaxstroke": __version__, **dataclasses.asdict(found), "chosen": chosen}
    files.write_sealed(run / file, tree)
    return run / file


def _again() -> str:
    return f"delete it, or give {command.text('calibrate')} again"


def _fields(group: type, tree: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: tree[field.name] for field in dataclasses.fields(group)}
