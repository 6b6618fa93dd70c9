"""`python -m jaxstroke.crossval --exp NAME`: trains every fold that is not trained, evaluates each, and pools them."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.process import door, job, signals
from jaxstroke.runs import place

if TYPE_CHECKING:
    from jaxstroke.judging.folds import Fold

REPORT = "report.html"
SHOWN = ("dice", "precision", "recall", "hd95_mm", "volume_difference_ml", "lesion_f1")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("crossval"),
        description="Cross-validation: every study is held out once. The same command goes on wherever it was stopped.",
        epilog=f"Example: {command.text('crossval')} --exp mdanet_isles18 --data /data/ISLES2018",
    )
    parser.add_argument("--exp", metavar="NAME", required=True, help="the experiment; train --list shows them")
    parser.add_argument("--data", metavar="PATH", help="the data set's folder (else JAXSTROKE_DATA, else the phantom)")
    parser.add_argument("--layout", default="", metavar="NAME", help="how the data lie, where it is not recognised")
    parser.add_argument("--out", metavar="DIR", type=Path, help="for everything: DIR/fold-K, and what they come to; "
                       "default: where train puts each fold, and runs/crossval-NAME")  # fmt: skip
    parser.add_argument("--scale", choices=("full", "small"), default="full", help="small: minutes on a laptop")
    parser.add_argument("--fold", type=int, metavar="K", help="this fold alone, as a job of an array does")
    parser.add_argument("--epochs", type=int, metavar="N", help="the number of epochs (training.epochs)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field: data.folds=3")
    parser.add_argument("--keep-going", action="store_true", help="leave out studies that cannot be prepared")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments, argparse.Namespace(typed=arguments))
    experiment = _experiment(args)
    if job.launcher() is not None:
        raise UserError(
            "crossval runs in one process; train each fold on several (train --fold K), then crossval pools them"
        )
    from jaxstroke.judging import folds as folding

    folds = [folding.Fold(k, _folder(experiment, k, args.out)) for k in range(experiment.data.folds)]
    todo = folds if args.fold is None else [folds[args.fold]]
    if any(not one.path.is_dir() for one in todo):
        _check_folds(experiment, args)
    for number, fold in enumerate(todo, start=1):
        its = _of_fold(experiment, fold.number)
        if folding.is_done(fold, its):
            console.say(f"fold {fold.number}: trained and evaluated, {fold.path}")
            continue
        console.say(f"fold {fold.number} ({number} of {len(todo)}): {fold.path}")
        code = _train_and_evaluate(fold, args)
        if code:
            return code
        folding.mark_done(fold, its)
    waiting = [one for one in folds if not folding.is_done(one, _of_fold(experiment, one.number))]
    if waiting:
        left = ", ".join(str(one.number) for one in waiting)
        console.say(f"fold {args.fold} is done; pooled when folds {left} are")
        return 0
    return _pool(experiment, folds, args.out or place.crossval_folder(experiment))


def _experiment(args: argparse.Namespace) -> Experiment:
    if "data.fold" in overrides.parse_assignments(args.set):
        raise UserError("--set data.fold: crossval goes through all folds; for one of them give --fold K")
    fields = {"data.fold": args.fold, "training.epochs": args.epochs}
    return overrides.override(catalogue.asked_for(args.exp, args.scale, args.set, fields), {"data.fold": 0})


def _check_folds(experiment: Experiment, args: argparse.Namespace) -> None:
    """Where a data set lays down which studies are for testing, every fold would test the same ones."""
    from jaxstroke import user_cache
    from jaxstroke.data.layouts import find_layout
    from jaxstroke.data.source import named_folder, open_source

    folder = named_folder(args.data)
    if folder is None:  # the phantom need not be made to know what it will be like
        where, fixed = f"the phantom of {experiment.data.layout}", find_layout(experiment.data.layout).lays_test_down
    else:
        source = open_source(experiment.data, folder, user_cache.folder(), args.layout)
        where, fixed = str(source.root), bool(source.layout.fixed_test(source.root))
    if fixed:
        again = command.text("train")
        raise UserError(
            f"{where}: it lays down which studies are for testing, so there are no folds to go through; train "
            f"several seeds instead ({again} --exp {args.exp} --set training.seed=1 --out ...), or use jaxstroke tables"
        )


def _folder(experiment: Experiment, number: int, out: Path | None) -> Path:
    if out is not None:
        return out / f"fold-{number}"
    return place.default_folder(_of_fold(experiment, number))


def _of_fold(experiment: Experiment, number: int) -> Experiment:
    return overrides.override(experiment, {"data.fold": number})


def _train_and_evaluate(fold: Fold, args: argparse.Namespace) -> int:
    """Each in a process of its own, so that a fold leaves no memory behind; returns the code of a stop."""
    words = ["--exp", args.exp, "--scale", args.scale, "--fold", str(fold.number), "--out", str(fold.path)]
    words += [word for assignment in args.set for word in ("--set", assignment)]
    words += ["--epochs", str(args.epochs)] if args.epochs is not None else []
    words += ["--keep-going"] if args.keep_going else []
    data = ["--data", args.data] if args.data else []
    words += ["--layout", args.layout] if args.layout else []
    for name, its in (("train", [*words, *data]), ("evaluate", [str(fold.path), *data])):
        code = job.watch(name, its)
        if code in (signals.REQUEUE, signals.INTERRUPTED):
            console.next_command("crossval", *args.typed)
            return code
        if code:
            raise UserError(
                f"fold {fold.number} failed ({name} ended with {code}; it says why above): no fold is left out, so "
                "nothing was pooled. Mend it and give the same command again; the other folds stay as they are"
            )
    return 0


def _pool(experiment: Experiment, folds: list[Fold], out: Path) -> int:
    from jaxstroke import files
    from jaxstroke.judging import folds as folding
    from jaxstroke.judging import tables, written
    from jaxstroke.pages import report
    from jaxstroke.runs.folder import RunFolder

    rows = folding.rows_of(folds)
    folding.check_complete(folds, rows)
    phantom = any(row["data"] == "phantom" for row in rows)
    lines = folding.summaries(rows)
    kept = [{name: value for name, value in row.items() if name != "data"} for row in rows]
    files.write_text(out / "scores.csv", written.csv_text(kept, phantom=phantom))
    tree = {
        "phantom": phantom,
        "experiment": dataclasses.asdict(experiment),
        "folds": [str(fold.path) for fold in folds],
        "systems": [_plain(line) for line in lines],
    }
    files.write_json(out / "summary.json", tree)
    studies = len({row["study"] for row in rows})
    title = f"{experiment.name}: {studies} studies, each held out once, {len(folds)} folds"
    _print(lines, title + (" [PHANTOM]" if phantom else ""))
    first = lines[0]["system"]
    tables.strata([row for row in rows if row["system"] == first and row["target"] == lines[0]["target"]])
    console.say(f"every score of every study: {out / 'scores.csv'}; means by fold: {out / 'summary.json'}")
    console.say(f"to look at: {report.write(out / REPORT, [RunFolder(fold.path) for fold in folds], title=title)}")
    console.next_command("compare", str(out))
    return 0


def _print(lines: list[dict[str, Any]], title: str) -> None:
    from jaxstroke.judging.tables import cell
    from jaxstroke.metrics.scorecard import COLUMNS, F1_OF_MEANS

    several = len({line["target"] for line in lines}) > 1
    console.say()
    for over in ("over_studies", "over_folds"):
        names = (*SHOWN, *(("f1_of_means",) if over == "over_folds" else ()))
        columns = {**COLUMNS, "f1_of_means": F1_OF_MEANS}
        cells = []
        for line in lines:
            name = f"{line['system']} ({line['target']})" if several else line["system"]
            cells.append([name, *(cell(columns[score], line[over][score]) for score in names)])
        means = f"mean and deviation {'over studies' if over == 'over_studies' else 'of the means of folds'}"
        console.table(["system", *(columns[name].heading for name in names)], cells, title=f"{title}; {means}")
        console.say()


def _plain(value: Any) -> Any:
    """Data classes as groups of fields, undefined numbers as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and value != value else value


if __name__ == "__main__":
    door.run(main)
