"""`python -m jaxstroke.evaluate RUN`: judges a trained run, and the threshold rules beside it, on held-out studies."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import math
from pathlib import Path
from typing import Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door

_SHOWN = ("dice", "precision", "recall", "hd95_mm", "volume_ml", "absolute_volume_difference_ml", "lesion_f1")


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog=command.text("evaluate"),
        description="Judge a run, and the threshold rules beside it, on the studies that were held out.",
    )
    words.add_argument("run", metavar="RUN", help="the run folder that train wrote")
    words.add_argument("--data", metavar="PATH", help="the data set, where it is not where the run found it")
    words.add_argument("--split", choices=("test", "validation", "train"), default="test", help="default: test")
    words.add_argument(
        "--choose-by",
        choices=("dice", "slice_dice_empty_1", "slice_dice_empty_0"),
        default="",
        help="the validation score whose best checkpoint is judged; default: as the experiment says",
    )
    words.add_argument("--cases", action="store_true", help="print every study, not the sums alone")
    return words


def main(arguments: list[str]) -> int:
    words = parser().parse_args(arguments)
    console.say(f"judging {words.run} on its {words.split} studies")
    from jaxstroke import user_cache
    from jaxstroke.data.layouts import folder_of
    from jaxstroke.data.source import open_source
    from jaxstroke.inference import evaluation, system
    from jaxstroke.process import compiled_programs
    from jaxstroke.runs.folder import RunFolder

    compiled_programs.keep()
    run = RunFolder(Path(words.run))
    network, experiment = system.trained(run, choose_by=words.choose_by)
    about = run.about()
    folder = Path(words.data or about["data"])
    if about["phantom"] and not folder.exists() and not words.data:
        folder = None  # the embedded phantom can be made again
    source = open_source(experiment.data, folder, user_cache.folder())
    if source.phantom:
        console.say(f"*** {console.PHANTOM_NOTICE} ***")
    cases = source.named(tuple(about["split"][words.split]))
    if not cases:
        raise UserError(f"{words.run}: the run has no {words.split} studies")
    present = [word for word in source.layout.modalities if all(word in case.images for case in cases)]
    systems = [network, *system.rules(present, len(experiment.data.targets))]
    needed = {*experiment.data.channels, *(word for one in systems for word in one.needs)}
    with console.bar("evaluating", len(cases) * len(systems), "answers") as advance:
        rows = evaluation.evaluate(
            systems,
            cases,
            images=[word for word in present if word in needed],
            targets=experiment.data.targets,
            advance=advance,
        )
    lines = evaluation.summaries(rows)
    written = _write(
        run.path / "evaluation" / "-".join(filter(None, (words.split, words.choose_by))),
        rows,
        lines,
        phantom=source.phantom,
        about=about,
    )
    if words.cases:
        _print_cases(rows)
    _print_sums(lines, count=len(cases), split=words.split, phantom=source.phantom)
    console.say(f"every score of every study: {written}")
    console.next_command("predict", words.run, str(folder_of(cases[0], source.root)), "-o", "predictions")
    return 0


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
