"""`python -m jaxstroke.score --reference A --prediction B`: every score of two masks, or of two folders of them."""

from __future__ import annotations

import argparse
import contextlib
import sys
import types
from pathlib import Path
from typing import Any

from jaxstroke import command, console
from jaxstroke.process import door


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("score"),
        description="Score masks in files; no run and no network is needed.",
        epilog="Example: python -m jaxstroke.score --reference truth --prediction mine --rules isles24 --json",
    )
    parser.add_argument("--reference", metavar="A", type=Path, required=True, help="a mask, a folder, or a data set")
    parser.add_argument("--prediction", metavar="B", type=Path, required=True, help="a mask, or a folder of such names")
    parser.add_argument("--rules", metavar="NAME", default="isles22", help="the convention; default isles22, list: all")
    parser.add_argument("--probabilities", metavar="P", type=Path, help="a map, or a folder of maps: AUC, calibration")
    parser.add_argument("--within", metavar="W", type=Path, help="masks of where probabilities are judged (the head)")
    parser.add_argument("--layout", metavar="NAME", default="", help="the data set, where it is not recognised")
    parser.add_argument("--json", action="store_true", help="print cases and mean as JSON and nothing else")
    parser.add_argument("--cases", action="store_true", help="print every case, not the means alone")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, help="also write scores.csv and scores.json there")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    from jaxstroke.judging import pairs, tables, written
    from jaxstroke.judging.scoring import score
    from jaxstroke.metrics.probability import pooled
    from jaxstroke.metrics.rules import find_rules, told
    from jaxstroke.phantoms.marker import phantom_facts

    if args.rules == "list":
        for line in told():
            console.say(line)
        return 0
    rules = find_rules(args.rules)
    found = pairs.find(
        args.reference, args.prediction, probabilities=args.probabilities, within=args.within, layout=args.layout
    )
    phantom = phantom_facts(args.reference) is not None
    shown = contextlib.nullcontext() if args.json else console.bar("scoring", len(found), "cases")
    with shown as advance:
        rows, curves = [], []
        for pair in found:
            row, curve = score(pair, rules)
            rows.append(row)
            curves += [] if curve is None else [curve]
            if advance:
                advance(1, note=pair.case)
    tree = written.as_json(rows, rules, phantom=phantom, reliability=pooled(curves))
    if args.out:
        written.write(args.out, rows, tree)
    if args.json:
        console.say(written.text(tree).rstrip())
        return 0
    console.say(f"rules {rules.name}: lesions matched by {rules.matching}")
    if args.cases or len(rows) == 1:
        tables.cases(rows)
    if len(rows) > 1:
        tables.means(rows, phantom=phantom)
        tables.strata(rows)
    if args.out:
        console.say(f"every score: {args.out / written.CSV}")
    return 0


class _Callable(types.ModuleType):
    """`jaxstroke.score(prediction, reference, spacing_mm)` scores arrays, though this module bears the name too."""

    def __call__(self, *args: Any, **named: Any) -> dict[str, float]:
        from jaxstroke.library import score

        return score(*args, **named)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    door.run(main)
