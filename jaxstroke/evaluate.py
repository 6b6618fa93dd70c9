"""`python -m jaxstroke.evaluate RUN`: judges a trained run, and the threshold rules beside it, on held-out studies."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import math
from pathlib import Path
from typing import Any

from jaxstroke import console
from jaxstroke.errors import UserError
from jaxstroke.process import door

_SHOWN = ("dice", "precision", "recall", "hd95_mm", "volume_ml", "volume_difference_ml", "lesion_f1")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxstroke.evaluate",
        description="Judge a run, and the threshold rules beside it, on the studies that were held out.",
    )
    parser.add_argument("run", metavar="RUN", help="the run folder that train wrote")
    parser.add_argument("--data", metavar="PATH", help="the data set, where it is not where the run found it")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test", help="default: test")
    parser.add_argument(
        "--choose-by",
        choices=("dice", "slice_dice_empty_1", "slice_dice_empty_0"),
        default="",
        help="the validation score whose best checkpoint is judged; default: as the experiment says",
    )
    parser.add_argument("--cases", action="store_true", help="print every study, not the sums alone")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    console.say(f"judging {args.run} on its {args.split} studies")
    from jaxstroke import user_cache
    from jaxstroke.data.source import open_source
    from jaxstroke.inference import evaluation, predictor, system
    from jaxstroke.pages import report
    from jaxstroke.pages.keep import Keeper
    from jaxstroke.process import compiled_programs
    from jaxstroke.runs.folder import RunFolder

    compiled_programs.keep()
    run = RunFolder(Path(args.run))
    shown = predictor.telling(run.experiment())
    trained, experiment = system.trained(run, intermediates=shown, choose_by=args.choose_by)
    about = run.about()
    folder = Path(args.data or about["data"])
    if about["phantom"] and not folder.exists() and not args.data:
        folder = None  # the embedded phantom can be made again
    source = open_source(experiment.data, folder, user_cache.folder(), about.get("layout", ""))
    if source.phantom:
        console.say(f"*** {console.PHANTOM_NOTICE} ***")
    cases = source.named(tuple(about["split"][args.split]))
    if not cases:
        raise UserError(f"{args.run}: the run has no {args.split} studies")
    present = [word for word in source.layout.modalities if all(word in case.images for case in cases)]
    systems = [trained, *system.rules(present, len(experiment.data.targets))]
    needed = {*experiment.data.channels, *(word for one in systems for word in one.needs)}
    name = "-".join(filter(None, (args.split, args.choose_by)))
    keeper = Keeper(run.path / "evaluation" / name, studies=len(cases), phantom=source.phantom)
    with console.bar("evaluating", len(cases) * len(systems), "answers") as advance:
        rows = evaluation.evaluate(
            systems,
            cases,
            images=[word for word in present if word in needed],
            targets=experiment.data.targets,
            advance=advance,
            look=keeper,
        )
    keeper.close()
    lines = evaluation.summaries(rows)
    written = _write(
        run.path / "evaluation" / name,
        rows,
        lines,
        phantom=source.phantom,
        about=about,
    )
    if args.cases:
        _print_cases(rows)
    _print_sums(lines, count=len(cases), split=args.split, phantom=source.phantom)
    console.say(f"every score of every study: {written}")
    console.say(f"to look at: {report.write(run.path / 'report.html', [run], split=name)}")
    console.next_command(
        "python", "-m", "jaxstroke.predict", args.run, str(_study_folder(cases[0])), "-o", "predictions"
    )
    return 0


def _study_folder(case: Any) -> Path:
    folders = {path.parent for path in case.images.values()}
    first = sorted(folders)[0]
    return first if len(folders) == 1 else first.parent


def _print_sums(lines: list[dict[str, Any]], *, count: int, split: str, phantom: bool) -> None:
    from jaxstroke.metrics.scorecard import COLUMNS

    targets = {line["target"] for line in lines}
    title = f"mean over {count} {split} studies" + (" [PHANTOM]" if phantom else "")
    header = ["system", *(COLUMNS[name].heading for name in _SHOWN)]
    cells = []
    for line in lines:
        name = line["system"] if len(targets) == 1 else f"{line['system']} ({line['target']})"
        cells.append([name, *(_cell(COLUMNS[score], line["scores"][score]) for score in _SHOWN)])
    console.say()
    console.table(header, cells, title=title)
    console.say("(n): studies where the score is defined, when not all; +- is the standard deviation over studies")


def _cell(column: Any, summary: Any) -> str:
    if not summary.n:
        return "undefined"
    text = column.text(summary.mean)
    text += "" if math.isnan(summary.sd) else f" +- {column.text(summary.sd)}"
    return text + (f" ({summary.n})" if summary.undefined else "")


def _print_cases(rows: list[dict[str, Any]]) -> None:
    from jaxstroke.metrics.scorecard import COLUMNS

    cells = [
        [f"{row['study']} {row['target']} {row['system']}", *(COLUMNS[score].text(row[score]) for score in _SHOWN)]
        for row in rows
    ]
    console.say()
    console.table(["study, target, system", *(COLUMNS[name].heading for name in _SHOWN)], cells)


def _write(
    folder: Path, rows: list[dict[str, Any]], lines: list[dict[str, Any]], *, phantom: bool, about: dict
) -> Path:
    from jaxstroke import files

    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=["data", *rows[0]])
    writer.writeheader()
    data = "phantom" if phantom else "real"
    writer.writerows({"data": data, **row} for row in rows)
    files.write_text(folder / "scores.csv", text.getvalue())
    sums = [
        {**line, "scores": {name: _plain(dataclasses.asdict(one)) for name, one in line["scores"].items()}}
        for line in lines
    ]
    made = {name: about[name] for name in ("jaxstroke", "versions", "commit", "device", "data_fingerprint", "seed")}
    files.write_json(folder / "summary.json", {"phantom": phantom, "trained": made, "systems": sums})
    return folder / "scores.csv"


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


if __name__ == "__main__":
    door.run(main)
