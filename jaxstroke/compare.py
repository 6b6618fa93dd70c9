"""`python -m jaxstroke.compare RUN RUN`: systems on the same studies: differences, tests, agreement, kappa."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door

if TYPE_CHECKING:
    from jaxstroke.judging.comparing import Agreement, Difference, PairKappa


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("compare"),
        description="Hold what evaluate, crossval or score left against each other, on the same studies.",
        epilog="Example: python -m jaxstroke.compare runs/mdanet_isles18 runs/unet_isles18 -o comparison",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run, a crossval folder, or a scores.csv")
    parser.add_argument("--split", default="test", metavar="NAME", help="which evaluation of a run; default: test")
    parser.add_argument("--scores", default="", metavar="NAMES", help="which scores, e.g. dice,hd95_mm,lesion_f1")
    parser.add_argument("--systems", default="", metavar="NAMES", help="which systems; default: all that were judged")
    parser.add_argument("--all-pairs", action="store_true", help="every pair, not each system against the first")
    parser.add_argument("--by-study", action="store_true", help="count slabs of a patient as studies of their own")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, help="also write comparison.json and pictures there")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    from jaxstroke.judging import comparing, judged

    scores = _chosen(args.scores)
    systems = judged.together(args.runs, args.split)
    systems = _named(systems, args.systems)
    if len(systems) < 2:
        raise UserError(f"{args.runs[0]}: only {systems[0].name} was judged there; name another run beside it")
    patients = not args.by_study and judged.shared_patients(systems[0])
    systems = [judged.by_patient(one) for one in systems] if patients else systems
    found = comparing.differences(systems, scores, all_pairs=args.all_pairs)
    agreed = comparing.agreements(systems)
    pairs = comparing.pair_kappas(systems, args.split)
    phantom = any(one.phantom for one in systems)
    counted = "patients" if patients else "studies"
    tree = {
        "phantom": phantom,
        "unit": counted,
        "rules": systems[0].rules,
        **comparing.as_json(found, agreed, pairs),
    }
    if args.out:
        from jaxstroke import files

        files.write_json(args.out / "comparison.json", tree)
        _draw(args.out, found, agreed, pairs, phantom=phantom)
    if args.json:
        console.say(json.dumps(tree, indent=2))
        return 0
    _print(found, agreed, pairs, f"{len(systems[0].rows)} {counted}" + (" [PHANTOM]" if phantom else ""))
    if args.out:
        console.say(f"comparison.json and pictures: {args.out}")
    return 0


def _chosen(names: str) -> Sequence[str]:
    from jaxstroke.judging.comparing import SCORES
    from jaxstroke.metrics.scorecard import COLUMNS

    chosen = [name for name in names.split(",") if name]
    for name in chosen:
        if name not in COLUMNS:
            raise UserError(f"--scores {name}: there is no such score; there are {', '.join(COLUMNS)}")
    return chosen or SCORES


def _named(systems: list, names: str) -> list:
    chosen = [name for name in names.split(",") if name]
    known = [one.name for one in systems]
    for name in chosen:
        if name not in known:
            raise UserError(f"--systems {name}: it was not judged there; there are {', '.join(known)}")
    return [systems[known.index(name)] for name in chosen] if chosen else systems


def _print(found: Sequence[Difference], agreed: Sequence[Agreement], pairs: Sequence[PairKappa], title: str) -> None:
    from jaxstroke.metrics.scorecard import COLUMNS
    from jaxstroke.metrics.statistics import agreement_level

    lines = []
    for one in found:
        column, mean = COLUMNS[one.score], one.difference
        lines.append([
            f"{one.first} - {one.second}{f' ({one.target})' if one.target not in ('', 'lesion') else ''}",
            column.heading, str(mean.n), column.text(one.mean_first), column.text(one.mean_second),
            f"{column.text(mean.mean)} [{column.text(mean.low)}, {column.text(mean.high)}]{one.stars}",
            *(_p(value) for value in (one.t.p, one.t_holm, one.wilcoxon.p, one.wilcoxon_holm)),
        ])  # fmt: skip
    console.table(
        ["pair", "score", "n", "first", "second", "difference [95 %]", "t: p", "Holm", "Wilcoxon: p", "Holm"],
        lines, title=title,
    )  # fmt: skip
    console.say("n: pairs in which both have a value; Holm: adjusted over the whole table; * by adjusted Wilcoxon")
    console.say()
    lines = [
        [
            f"{one.system}{f' ({one.target})' if one.target not in ('', 'lesion') else ''}", str(one.volumes.n),
            f"{one.volumes.mean_difference:.1f}", f"{one.volumes.lower_limit:.1f} to {one.volumes.upper_limit:.1f}",
            f"{one.kappa.mean:.3f} [{one.kappa.low:.3f}, {one.kappa.high:.3f}]", agreement_level(one.kappa.mean),
        ]
        for one in agreed
    ]  # fmt: skip
    console.table(
        ["against the reference", "n", "volume bias (mL)", "limits of agreement", "kappa [95 %]", "level"], lines
    )
    _print_kappas(pairs)


def _print_kappas(pairs: Sequence[PairKappa]) -> None:
    from jaxstroke.metrics.statistics import agreement_level

    console.say()
    if not pairs:
        console.say("kappa between systems: no masks were kept there; evaluate the runs again")
        return
    lines = [
        [one.name, str(one.kappa.n), f"{one.kappa.mean:.3f} [{one.kappa.low:.3f}, {one.kappa.high:.3f}]",
         agreement_level(one.kappa.mean)]
        for one in pairs
    ]  # fmt: skip
    console.table(["kappa between", "studies", "kappa [95 %]", "level"], lines)


def _p(value: float) -> str:
    return "undefined" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _draw(
    out: Path,
    found: Sequence[Difference],
    agreed: Sequence[Agreement],
    pairs: Sequence[PairKappa],
    *,
    phantom: bool,
) -> None:
    from jaxstroke.metrics.scorecard import COLUMNS
    from jaxstroke.pictures import agreement

    several = len({one.target for one in agreed}) > 1
    panels: dict = {}
    for one in found:
        title = COLUMNS[one.score].heading + (f", {one.target}" if several else "")
        mean = one.difference
        label = f"{one.first} - {one.second} {one.stars}".rstrip()
        panels.setdefault(title, {})[label] = (one.values, mean.mean, mean.low, mean.high)
    agreement.paired_differences(panels, out / "differences.png", phantom=phantom)
    names = {f"{one.system} ({one.target})" if several else one.system: one for one in agreed}
    volumes = {
        name: (one.predicted_ml, one.reference_ml, one.volumes.mean_difference, one.volumes.lower_limit,
               one.volumes.upper_limit)
        for name, one in names.items()
    }  # fmt: skip
    agreement.bland_altman(volumes, out / "bland_altman.png", phantom=phantom)
    drawn = {one.name: one.values for one in pairs} or {name: one.kappas for name, one in names.items()}
    agreement.kappas(drawn, out / "kappa.png", phantom=phantom)


if __name__ == "__main__":
    door.run(main)
