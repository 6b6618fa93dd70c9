"""`python -m jaxstroke.calibrate RUN`: chooses how probabilities become a mask, on a run's validation studies."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door

if TYPE_CHECKING:
    from jaxstroke.inference.calibrating import Found
    from jaxstroke.inference.held_out import HeldOut
    from jaxstroke.inference.members import Member
    from jaxstroke.runs.calibration import Calibration, Rule
    from jaxstroke.runs.folder import RunFolder


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("calibrate"),
        description="Choose threshold, smallest lesion and temperature on a run's validation studies, and keep them in "
        "the run, where predict, evaluate and export find them. Test studies are never looked at.",
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="+", help="the run folder that train wrote, or crossval's: each run by itself"
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
    from jaxstroke.inference import members
    from jaxstroke.process import compiled_programs

    compiled_programs.keep()
    mirrored = sharding.on_accelerator() if args.mirror is None else args.mirror
    for run in members.runs_of([Path(one) for one in args.run]):
        _calibrate(run, args, mirrored)
    console.next_command("evaluate", args.run[0])
    return 0


def _calibrate(run: RunFolder, args: argparse.Namespace, mirrored: bool) -> None:
    from jaxstroke.inference import calibrating, held_out, members, system
    from jaxstroke.metrics.conformal import LEVEL
    from jaxstroke.runs import calibration

    studies = held_out.held_out(run, run.experiment().data, split="validation", folder=args.data)
    if studies.name != "validation":
        raise UserError(f"{args.data}: it is not the data set of {run.path}, whose validation studies are needed")
    (member,) = members.read([run], calibrated=False)
    trained, experiment = system.of_members([member], mirrored=mirrored)
    before = calibration.Rule.of(experiment.evaluation)
    with console.bar("calibrating", len(studies.cases), "studies") as advance:
        found = calibrating.calibrate(
            trained, studies.cases, experiment.data.targets, before=before, by=args.by, advance=advance
        )
    seen = _seen(run, studies, member, found)
    phantom = studies.source.phantom
    chosen = _chosen(found, before, by=args.by, studies=len(studies.cases), phantom=phantom)
    kept = calibration.Calibration(
        member.step, mirrored, found.temperature, found.rule, LEVEL, residuals=found.residuals, seen=seen
    )
    path = calibration.write(run.path, kept, chosen)
    _tell(chosen, f"{len(studies.cases)} validation studies{' [PHANTOM]' if phantom else ''}")
    _tell_interval(kept)
    console.say(trained.cost())
    console.say(f"{path}: the validation studies chose the checkpoint too; on others less will be gained")


def _seen(run: RunFolder, studies: HeldOut, member: Member, found: Found) -> dict[str, tuple[float, float]]:
    """What studies look like that were trained on or chose the checkpoint; of the latter also how far passes differ."""
    from jaxstroke.inference import calibrating, unlike

    split = run.about()["split"]
    known = studies.source.named((*split["train"], *split["validation"]))
    with console.bar("looking at training studies", len(known), "studies") as advance:
        seen = calibrating.seen_in(known, member.experiment.data, advance=advance)
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
