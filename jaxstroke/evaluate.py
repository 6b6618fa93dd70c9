"""`python -m jaxstroke.evaluate RUN`: judges a trained run, and the threshold rules beside it, on held-out studies."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door

if TYPE_CHECKING:
    from jaxstroke.experiment import Experiment
    from jaxstroke.inference.held_out import HeldOut
    from jaxstroke.metrics.probability import Reliability
    from jaxstroke.runs.folder import RunFolder

Rows = list[dict[str, Any]]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("evaluate"),
        description="Judge a run, and the threshold rules beside it, on the studies that were held out.",
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="+", help="the run folder that train wrote; of several, or of crossval's, the mean"
    )
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, help="for what is written; needed with several runs")
    parser.add_argument("--data", metavar="PATH", help="the data set, where it lies elsewhere now; or another one")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test", help="default: test")
    parser.add_argument(
        "--choose-by",
        choices=("dice", "slice_dice_empty_1", "slice_dice_empty_0", "last"),
        default="",
        help="the validation score whose best checkpoint is judged, or last; default: as the experiment says",
    )
    parser.add_argument("--rules", metavar="NAME", default="isles22", help="the convention of scoring; default isles22")
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="also mirrored copies, along the axes that training flips; default: as the run was calibrated, else none",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="judge on a data set whose studies lack some of the images, with 0 in their place; every output says so",
    )
    parser.add_argument("--cases", action="store_true", help="print every study, not the sums alone")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    console.say(f"judging {', '.join(args.run)}")
    from jaxstroke.data.layouts import folder_of
    from jaxstroke.inference import doubts, evaluation, held_out, members, predictor, system
    from jaxstroke.judging import kept
    from jaxstroke.metrics.rules import find_rules
    from jaxstroke.pages import report
    from jaxstroke.pages.keep import Keeper
    from jaxstroke.process import compiled_programs

    compiled_programs.keep()
    rules = find_rules(args.rules)
    runs = members.runs_of([Path(one) for one in args.run])
    if len(runs) > 1 and args.out is None:
        raise UserError("several runs have no folder of their own for what they come to: name one with -o")
    out = args.out or runs[0].path
    studies = held_out.held_out_from_all(runs, split=args.split, folder=args.data, allow_missing=args.allow_missing)
    shown = predictor.telling(runs[0].experiment()) if len(runs) == 1 else ()
    trained, experiment = system.trained(runs, intermediates=shown, choose_by=args.choose_by, mirrored=args.mirror)
    console.say(f"{len(studies.cases)} {studies.words}; masks: {trained.rule}")
    if studies.source.phantom:
        console.say(f"*** {console.PHANTOM_NOTICE} ***")
    present = [word for word in studies.source.layout.modalities if all(word in case.images for case in studies.cases)]
    systems = [trained, *system.rules(present, len(experiment.data.targets))]
    needed = {*experiment.data.channels, *(word for one in systems for word in one.needs)}
    lacking = list(trained.needs) if args.allow_missing else []
    mirror = {True: "mirrored", False: "not-mirrored", None: ""}[args.mirror]
    marks = (studies.name, args.choose_by, mirror, "" if args.rules == "isles22" else args.rules)
    name = "-".join(filter(None, marks))
    keeper = Keeper(out / "evaluation" / name, studies=len(studies.cases), phantom=studies.source.phantom)
    curves: dict[str, Reliability] = {}
    masks: list[dict[str, Any]] = []
    with console.bar("evaluating", len(studies.cases) * len(systems), "answers") as advance:
        rows = evaluation.evaluate(
            systems,
            studies.cases,
            images=[word for word in present if word in needed] + [word for word in lacking if word not in present],
            targets=experiment.data.targets,
            preparation=trained.preparation,
            rules=rules,
            reliability=curves,
            look=keeper,
            keep=lambda *drawn: masks.append(kept.line(*drawn)),
            advance=advance,
            allow_missing=args.allow_missing,
        )
    keeper.close()
    kept.write(out / "evaluation" / name / kept.FILE, masks)
    made = {"runs": [_of_run(one) for one in runs], "mirrored": trained.mirrored, "rule": trained.rule}
    made["cost"], made["study_s"] = trained.cost(), trained.study_s()
    own = [row for row in rows if row["system"] == trained.name]
    made["intervals"], made["unlike"] = doubts.coverage(own, trained.doubts), doubts.flagged(own)
    without = {row["study"]: row["missing"] for row in own if row.get("missing")}
    made["missing"] = {study: words.split() for study, words in without.items()}
    written = _write(out, name, rows, curves, studies, made)
    _print(rows, studies, experiment, every_case=args.cases)
    for study, words in without.items():
        console.say(f"{study} was judged without {words}: the network saw 0 there")
    for target, one in made["intervals"].items():
        words = f"{one['level']:.0%} interval of the volume of {target}: it held the annotated volume in "
        console.say(f"{words}{one['held']} of {one['studies']} studies; mean width {one['mean_width_ml']:.1f} mL")
    if made["unlike"] is not None:
        _tell_unlike(made["unlike"])
    console.say(trained.cost())
    console.say(f"every score of every study: {written}")
    if args.out is None:
        console.say(f"to look at: {report.write(out / 'report.html', runs, split=name)}")
    study = str(folder_of(studies.cases[0], studies.source.root))
    console.next_command("predict", *args.run, study, "-o", "predictions")
    return 0


def _print(rows: Rows, studies: HeldOut, experiment: Experiment, *, every_case: bool) -> None:
    from jaxstroke.inference import evaluation
    from jaxstroke.judging import tables

    lines = evaluation.summaries(rows)
    if every_case:
        tables.cases([{**row, "case": f"{row['study']} {row['target']} {row['system']}"} for row in rows])
    title = f"mean over {len(studies.cases)} {studies.words}" + (" [PHANTOM]" if studies.source.phantom else "")
    console.say()
    # A checkpoint chosen by the mean over slices is a claim about it, which hangs on what an empty slice is worth.
    by_slices = experiment.evaluation.choose_by.startswith("slice_dice")
    tables.systems(lines, title, also=tables.SLICES_SHOWN if by_slices else ())
    first = lines[0]
    own = [row for row in rows if (row["system"], row["target"]) == (first["system"], first["target"])]
    tables.strata(own)


def _tell_unlike(flagged: dict[str, Any]) -> None:
    why = "; ".join(f"{study}: {reasons}" for study, reasons in flagged["reasons"].items())
    words = f"{len(flagged['reasons'])} of {flagged['studies']} studies are called unlike those trained on"
    console.say(f"{words}: {why}" if why else words)


def _of_run(run: RunFolder) -> dict[str, Any]:
    from jaxstroke.runs import place

    about = run.about()
    made = {word: about[word] for word in ("jaxstroke", "versions", "commit", "device", "data_fingerprint", "seed")}
    return {"path": str(run.path), "checkpoints": place.state_of(run.path), "trained": made}


def _write(
    out: Path, name: str, rows: Rows, curves: dict[str, Reliability], studies: HeldOut, made: dict[str, Any]
) -> Path:
    from jaxstroke import files
    from jaxstroke.inference import evaluation
    from jaxstroke.judging import written
    from jaxstroke.metrics import strata

    folder = out / "evaluation" / name
    (folder / "summary.json").unlink(missing_ok=True)  # last written: where it is, all of the rest belongs to it
    phantom = studies.source.phantom
    files.write_text(folder / written.CSV, written.csv_text(rows, phantom=phantom))
    targets = dict.fromkeys(row["target"] for row in rows)
    of_system = {
        system: [row for row in rows if row["system"] == system] for system in dict.fromkeys(r["system"] for r in rows)
    }
    tree = {
        "phantom": phantom,
        "rules": rows[0]["rules"],
        "studies": studies.words,
        "data": str(studies.source.root.absolute()),
        **made,
        "checkpoints": " ".join(one["checkpoints"] for one in made["runs"]),
        "systems": [_summary(line) for line in evaluation.summaries(rows)],
        "strata": {
            system: {way: _strata(grouped) for way, grouped in strata.strata(own).items()}
            for system, own in of_system.items()
        },
        "strata_by_patient": {
            system: {way: _strata(grouped) for way, grouped in strata.strata(strata.by_patient(own)).items()}
            for system, own in of_system.items()
            if len(targets) == 1 and strata.shared_patients(own)
        },
        "reliability": {system: curve.rows() for system, curve in curves.items()},
    }
    files.write_json(folder / "summary.json", tree)
    return folder / written.CSV


def _summary(line: dict[str, Any]) -> dict[str, Any]:
    from jaxstroke.judging.written import plain
    from jaxstroke.metrics.scorecard import f1_of_means

    scores = {
        name: {part: plain(value) for part, value in dataclasses.asdict(one).items()}
        for name, one in line["scores"].items()
    }
    return {**line, "scores": scores, "f1_of_means": plain(f1_of_means(line["scores"]))}


def _strata(grouped: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    from jaxstroke.judging.written import plain
    from jaxstroke.metrics import scorecard

    return {
        word: {"n": len(rows), "mean": {name: plain(one.mean) for name, one in scorecard.summarise(rows).items()}}
        for word, rows in grouped.items()
    }


if __name__ == "__main__":
    door.run(main)
