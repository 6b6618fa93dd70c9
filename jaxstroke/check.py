"""`python -m jaxstroke.check DATA`: every study of a data set and every fault, before a minute of training."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from jaxstroke import command, console
from jaxstroke.process import door

if TYPE_CHECKING:
    from jaxstroke.data.inspection import Report
    from jaxstroke.experiment import Data


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("check"),
        description="Read every file of a data set and name every fault; the exit status is 1 where any is an error.",
    )
    parser.add_argument("data", metavar="DATA", help="the data set's folder, or a study's")
    parser.add_argument("--layout", default="", metavar="NAME", help="how it lies on disk, where it is not recognised")
    parser.add_argument("--exp", default="", metavar="NAME", help="also prepare each study as this experiment would")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of the experiment")
    parser.add_argument("--json", action="store_true", help="print cases, errors and warnings as JSON and nothing else")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    from jaxstroke.data.inspection import inspect
    from jaxstroke.data.lookup import look_up

    data = _data(args.exp, args.set)
    if not args.json:
        console.say(f"checking {args.data}")
    layout, cases = look_up(Path(args.data), args.layout)
    if args.json:
        report = inspect(cases, data=data)
        console.say(json.dumps(report.as_json(), indent=2))
    else:
        console.say(f"{args.data}: {len(cases)} studies of {layout.title}")
        with console.bar("checking", len(cases), "studies") as advance:
            report = inspect(cases, advance, data)
        _print(report, Path(args.data))
    return 1 if any(problem.error for problem in report.problems) else 0


def _data(experiment: str, assignments: list[str]) -> Data | None:
    from jaxstroke.errors import UserError
    from jaxstroke.experiment import catalogue

    if assignments and not experiment:
        raise UserError("--set is of an experiment; name it with --exp")
    return catalogue.asked_for(experiment, "full", assignments, {}).data if experiment else None


def _print(report: Report, root: Path) -> None:
    """A line for each study that is whole, and one for each problem; errors last, where they are seen."""
    width = max(len(study.case.study) for study in report.studies)
    for study in report.studies:
        if not study.problems:
            images = " ".join([*study.case.images, *study.case.masks])
            size = f"{_times(study.shape)} at {_times(study.spacing_mm)} mm"
            console.say(f"{study.case.study:{width}}  ok       {size}: {images}")
        for line in study.prepared:
            console.say(f"{study.case.study:{width}}  done     {line}")
    for problem in sorted(report.problems, key=lambda problem: problem.error):
        word = "ERROR  " if problem.error else "warning"
        file = problem.file.removeprefix(f"{root}/")
        console.say(
            f"{problem.case or 'all':{width}}  {word}  {problem.kind}: {f'{file}: ' * bool(file)}{problem.message}"
        )
    errors = sum(problem.error for problem in report.problems)
    megabytes = report.bytes_read / 1e6
    console.say(f"{len(report.studies)} studies, {errors} errors, {len(report.problems) - errors} warnings")
    console.say(f"{megabytes:.0f} MB read in {report.seconds:.1f} s ({megabytes / max(report.seconds, 1e-3):.0f} MB/s)")


def _times(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


if __name__ == "__main__":
    door.run(main)
