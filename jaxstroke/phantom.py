"""Makes a phantom: studies that look like a public data set on disk and hold no real patient."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxstroke import command, console
from jaxstroke.process import door

_LAYOUTS = ("isles2018", "isles2022", "isles2024", "two_reader", "atlas", "soop", "folder")


def main(arguments: list[str]) -> int:
    args = _parser().parse_args(arguments)
    from jaxstroke.phantoms import dataset

    console.say(console.PHANTOM_NOTICE)
    marker = dataset.describe(args.layout, cases=args.cases, seed=args.seed, with_ctp=args.with_ctp)
    if dataset.already_there(args.out, marker):
        console.say(f"{args.out} already holds this phantom")
    else:
        with console.bar("phantom", args.cases, "studies") as advance:
            dataset.generate(
                args.layout,
                cases=args.cases,
                seed=args.seed,
                folder=args.out,
                with_ctp=args.with_ctp,
                workers=args.workers,
                progress=advance,
            )
        console.say(f"{args.cases} studies in {args.out}")
    console.next_command(*_use(args.layout, args.out))
    return 0


def _use(layout: str, folder: Path) -> list[str]:
    """The command that trains on the phantom: the experiment of its layout with the plainest name.

    Not one that is split as others are, which a table makes; where there are too few patients, the one that predicts.
    """
    from jaxstroke.data.layouts import find_layout
    from jaxstroke.data.splits import most_folds
    from jaxstroke.experiment import catalogue

    declared = {name: catalogue.load(name).data for name in catalogue.names()}
    alone = [name for name, data in declared.items() if data.layout == layout and data.split_seed is None]
    name = min(alone, key=len)
    data, found = declared[name], find_layout(layout)
    patients = {case.study: case.patient for case in found.find(folder) if set(data.targets) <= case.masks.keys()}
    folds = most_folds(patients, data, fixed_test=found.fixed_test(folder))
    if not folds:
        return ["predict", "RUN", str(folder), "-o", "predictions"]
    fewer = [] if folds == data.folds else ["--set", f"data.folds={folds}"]
    return ["train", "--exp", name, "--data", str(folder), *fewer]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("phantom"),
        description="Makes studies from anatomy and physics, on disk as a public data set lies there.",
        epilog=f"Example: {command.text('phantom')} --layout isles2018 --cases 60 -o phantoms/isles2018",
    )
    parser.add_argument("--layout", required=True, choices=_LAYOUTS, help="the data set to look like")
    parser.add_argument("--cases", type=int, default=60, metavar="N", help="how many studies (60)")
    parser.add_argument("--seed", type=int, default=2018, metavar="S", help="the same seed gives the same bytes (2018)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--with-ctp", action="store_true", help="isles2018, isles2024: also the 4D series (large)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that work side by side (1)")
    return parser


if __name__ == "__main__":
    door.run(main)
