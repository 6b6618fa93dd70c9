"""`python -m jaxstroke.calibrate RUN`: chooses how probabilities become a mask, on a run's validation studies."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door

if TYPE_CHECKING:
    from jaxstroke.experiment import Experiment
    from jaxstroke.inference.calibrating import Found
    from jaxstroke.inference.held_out import HeldOut
    from jaxstroke.runs.calibration import Calibration, Rule
    from jaxstroke.runs.folder import RunFolder


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("calibrate"),
        description="Choose threshold, smallest lesion and temperature on a run's validation studies, and keep them in "
        "the run, where predict, evaluate and export find them. Test studies are never looked at.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        help="the run folder that train wrote, or crossval's: each run by itself, then "
        "the mean of them where validation studies are left that none trained on",
    )
    parser.add_argument(
        "--by",
        choices=("dice", "lesion_f1"),
        default="dice",
        help="the score to choose by; lesion_f1: among the rules that cost no Dice; default: dice",
    )
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="with mirrored copies, which the run then always has; default: where there is an accelerator",
    )
    parser.add_argument("--data", metavar="PATH", help="the run's data set, where it lies elsewhere now")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    console.say(f"calibrating {', '.join(args.run)}")
    from jaxstroke import sharding
    from jaxstroke.inference import held_out, members
    from jaxstroke.process import compiled_programs

    compiled_programs.keep()
    mirrored = sharding.on_accelerator() if args.mirror is None else args.mirror
    runs = members.runs_of([Path(one) for one in args.run])
    for run in runs:
        _calibrate([run], args, mirrored)
    if len(runs) == 1:
        console.next_command("evaluate", args.run[0])
        return 0
    if held_out.shared(runs, "validation"):
        _calibrate(runs, args, mirrored)
    else:
        console.say(
            f"together the {len(runs)} runs answer by the mean of their rules: no study is among the validation "
            "studies of all of them (in a cross-validation each study is held out to test one)"
        )
    console.next_command("evaluate", *args.run, "-o", "evaluated")
    return 0


def _calibrate(runs: Sequence[RunFolder], args: argparse.Namespace, mirrored: bool) -> None:
    """A run, or of several the mean of their probabilities, each of which was calibrated by itself."""
    from jaxstroke.inference import calibrating, held_out, members, system
    from jaxstroke.metrics.conformal import LEVEL
    from jaxstroke.runs import calibration

    studies = held_out.held_out_from_all(runs, split="validation", folder=args.data)
    if studies.name != "validation":
        raise UserError(f"{args.data}: it is not the data set of {runs[0].path}, whose validation studies are needed")
    together = members.read(runs, calibrated=len(runs) > 1)
    trained, experiment = system.of_members(together, mirrored=mirrored)
    before = members.rule_of(together)
    with console.bar("calibrating", len(studies.cases), "studies") as advance:
        found = calibrating.calibrate(
            trained, studies.cases, experiment.data.targets, before=before, by=args.by, advance=advance
        )
    seen = _seen(runs, studies, experiment, found)
    phantom = studies.source.phantom
    chosen = _chosen(found, before, by=args.by, studies=len(studies.cases), phantom=phantom)
    kept = calibration.Calibration(
        together[0].step, mirrored, found.temperature, found.rule, LEVEL, residuals=found.residuals, seen=seen
    )
    file = members.joint_file(together) if len(runs) > 1 else calibration.FILE
    path, *_ = [calibration.write(run.path, kept, chosen, file) for run in runs]
    whose = f"; the mean of {len(runs)} runs" if len(runs) > 1 else ""
    _tell(chosen, f"{len(studies.cases)} validation studies{' [PHANTOM]' if phantom else ''}{whose}")
    _tell_interval(kept)
    console.say(trained.cost())
    console.say(f"{path}: the validation studies chose the checkpoint too; on others less will be gained")


def _seen(
    runs: Sequence[RunFolder], studies: HeldOut, experiment: Experiment, found: Found
) -> dict[str, tuple[float, float]]:
    """What studies look like that were trained on or chose the checkpoint; of the latter also how far passes differ."""
    from jaxstroke.inference import calibrating, unlike

    splits = [run.about()["split"] for run in runs]
    names = dict.fromkeys(study for split in splits for study in (*split["train"], *split["validation"]))
    known = studies.source.named(tuple(names))
    with console.bar("looking at training studies", len(known), "studies") as advance:
        seen = calibrating.seen_in(known, experiment.data, advance=advance)
    return seen | unlike.ranges({unlike.DISAGREEMENT: one} for one in found.disagreement)


def _tell_interval(kept: Calibration) -> None:
    from jaxstroke.metrics import conformal

    for target, residuals in kept.residuals.items():
        q = conformal.reach(residuals, kept.level)
        if q < math.inf:
            factor = f"from 1 / {math.exp(q):.3g} to {math.exp(q):.3g} times the predicted (volume + 1 mL)"
            console.say(f"{kept.level:.0%} interval of the volume of {target}: {factor}")
        else:
            words = f"no {kept.level:.0%} interval of the volume of {target}: that takes "
            console.say(f"{words}{conformal.fewest(kept.level)} validation studies")


def _chosen(found: Found, before: Rule, *, by: str, studies: int, phantom: bool) -> dict[str, Any]:
    """What is kept of the choice, and printed."""
    sides = (
        ("before", before, found.before, found.logits),
        ("after", found.rule, found.after, found.logits.at(found.temperature)),
    )
    tree: dict[str, Any] = {"by": by, "studies": studies, "phantom": phantom, "temperature": found.temperature}
    for name, rule, means, logits in sides:
        curve = logits.reliability()
        figures = {"dice": means.dice, "lesion_f1": means.lesion_f1, "ece": curve.ece, "brier": logits.brier()}
        tree[name] = {"rule": str(rule), **figures, "reliability": curve.rows()}
    return tree


def _tell(chosen: dict[str, Any], title: str) -> None:
    rows = [
        [name, one["rule"], *(f"{one[score]:.4f}" for score in ("dice", "lesion_f1", "ece", "brier"))]
        for name, one in ((side, chosen[side]) for side in ("before", "after"))
    ]
    console.say()
    console.table(["", "rule", "Dice", "Lesion F1", "ECE", "Brier"], rows, title=f"{title}, by {chosen['by']}")
    console.say(f"temperature {chosen['temperature']:.3g}; ECE and Brier over the voxels of all heads")


if __name__ == "__main__":
    door.run(main)
