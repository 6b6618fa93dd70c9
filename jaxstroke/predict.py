"""`python -m jaxstroke.predict RUN STUDY -o OUT`: masks and probability maps as NIfTI, on each study's own grid."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

from jaxstroke import command, console
from jaxstroke.process import door


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("predict"),
        description="Segment a study, or a folder of them, with a trained run; the network is compiled once for all.",
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="+", help="the run folder that train wrote; of several, or of crossval's, the mean"
    )
    parser.add_argument("study", metavar="STUDY", help="a study's folder, or a data set with many; or several of them")
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="the folder for what is predicted")
    parser.add_argument(
        "--intermediates",
        default="",
        metavar="NAMES",
        help="also write what the network looks at (attention, gate, difference, synthetic, ...); 'list' names them",
    )
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="also predict mirrored copies, along the axes that training flips; default: where there is an accelerator",
    )
    parser.add_argument(
        "--uncertainty", action="store_true", help="also write maps of entropy, and of the spread of several passes"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="predict a study that lacks some of the images, with 0 in their place; every output says so",
    )
    parser.add_argument(
        "--as",
        dest="naming",
        default="",
        choices=("isles2018", "isles2022", "isles2024", "bids"),
        help="name files as that challenge asks for, or as a BIDS derivative; default: as the study's data set does",
    )
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    args.run, roots = _apart(args.run, args.study)
    console.say(f"predicting {', '.join(map(str, roots))} with {', '.join(args.run)}")
    from jaxstroke import files, sharding
    from jaxstroke.data.layouts import find_layout
    from jaxstroke.data.lookup import studies_at
    from jaxstroke.errors import UserError
    from jaxstroke.inference import derivative, many, members, naming, predictor, system, written
    from jaxstroke.phantoms.marker import phantom_facts
    from jaxstroke.process import compiled_programs

    compiled_programs.keep()
    runs = members.runs_of([Path(one) for one in args.run])
    run = runs[0]
    names = [name for name in args.intermediates.split(",") if name]
    if names == ["list"]:
        for path in predictor.available(run.experiment()):
            console.say(path)
        return 0
    layout = find_layout(run.experiment().data.layout)
    found = {root: studies_at(root, layout) for root in roots}
    cases = [case for here in found.values() for case in here]
    names_of = naming.naming(args.naming)
    naming.check_apart(names_of, cases)
    trained, experiment = system.trained(
        runs, intermediates=names, mirrored=args.mirror, mirrored_uncalibrated=sharding.on_accelerator()
    )
    console.say(f"masks: {trained.rule}")
    phantoms = {case.study for root, here in found.items() for case in here if phantom_facts(root) is not None}
    out = Path(args.out)
    trained_on_phantom = any(one.about()["phantom"] for one in runs)
    if trained_on_phantom:
        console.say(f"*** {console.TRAINED_ON_PHANTOMS} ***")
    write = functools.partial(
        written.write,
        out,
        system=trained,
        targets=experiment.data.targets,
        phantoms=phantoms,
        uncertainty=args.uncertainty,
        naming=names_of,
    )
    with console.bar("predicting", len(cases), "studies") as advance:
        outcome = many.predict(cases, trained, write, advance, allow_missing=args.allow_missing)
    facts = {
        "network": experiment.name,
        "runs": [str(one.path.absolute()) for one in runs],
        "mirrored": trained.mirrored,
        "rule": trained.rule,
        "cost": trained.cost(),
        "seconds": outcome.seconds,
        "trained_on_phantom": trained_on_phantom,
        "studies_are_phantom": bool(phantoms),
        "not_a_medical_device": True,
        "predictions": outcome.done,
        "failed": outcome.failed,
    }
    written.make(out)
    files.write_json(out / "predictions.json", facts)
    files.write_text(out / "lesions.csv", written.lesions_csv(outcome.done))
    if args.naming == "bids":
        derivative.describe(out, outcome.done, runs)
    for line in outcome.done:
        _tell(line)
    console.say(trained.cost())
    if len(cases) > 1:
        console.say(outcome.told())
    if not outcome.done:
        first = outcome.failed[0]["reason"]
        raise UserError(first if len(cases) == 1 else f"none of the {len(cases)} studies could be predicted: {first}")
    if outcome.failed:
        names = f"{len(outcome.failed)} of {len(cases)} studies could not be predicted"
        console.error(f"{names}; the others are written, and {out / 'predictions.json'} says why")
        return 1
    annotated = any(target in case.masks for case in cases for target in experiment.data.targets)
    if len(runs) > 1 and annotated and layout.recognises(roots[0]):
        console.next_command("evaluate", *args.run, "--data", str(roots[0]), "-o", "evaluated")
    elif len(runs) == 1 and run.about()["split"]["test"]:
        console.next_command("evaluate", *args.run)
    else:  # no study here was held out, or there is nothing to judge by
        console.next_command("export", str(run.path), "-o", "exported")
    return 0


def _apart(words: list[str], last: str) -> tuple[list[str], list[Path]]:
    """The runs, which come first, and the studies, from the first folder that holds no run; the last is always one."""
    from jaxstroke.runs import place

    count = 1
    while count < len(words) and (place.holds_run(path := Path(words[count])) or not path.exists()):
        count += 1
    return words[:count], [Path(word) for word in (*words[count:], last)]


def _tell(line: dict[str, Any]) -> None:
    from jaxstroke.data.study import without

    interval = line["interval"]
    sure = "" if interval is None else f" ({interval['low_ml']:.1f} to {interval['high_ml']:.1f})"
    volume = f"{line['volume_ml']:.1f} mL{sure}"
    name = f"{line['study']} {line['target']}{without(line['missing'])}"
    console.say(f"{name}: {volume}, {line['lesions']} lesions -> {line['mask']}")
    if line["unlike"]:
        console.warn(f"study {line['study']} is unlike those trained on: {'; '.join(line['unlike'])}")


if __name__ == "__main__":
    door.run(main)
