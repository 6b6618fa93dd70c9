"""`python -m jaxstroke.tables [NAME]`: the papers' tables, measured where they are not yet, beside the published."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door, job

if TYPE_CHECKING:
    from jaxstroke.papers.declared import Figure, Table
    from jaxstroke.papers.filled import Filled
    from jaxstroke.papers.plan import Planned


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.text("tables"),
        description="Measure the tables of the papers: train and evaluate what is missing, and write it beside the "
        "published figures. The same command goes on wherever it was stopped.",
        epilog=f"Example: {command.text('tables')} mdanet-4 --scale small",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="a paper, or a table; default: all")
    parser.add_argument("--list", action="store_true", help="list the tables, and what of them is measured")
    parser.add_argument("--no-training", action="store_true", help="print what is there; nothing is trained or judged")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="train these rows only, by name")
    parser.add_argument("--scale", choices=("full", "small"), default="full", help="small: minutes a run on a laptop")
    parser.add_argument("--seeds", type=int, metavar="N", help="runs a row: folds or seeds, as the table goes by; "
                       "default: the paper's number, 3 at small scale")  # fmt: skip
    parser.add_argument("--data", nargs="+", default=[], metavar="LAYOUT=PATH", help="isles2018=PATH; else phantoms")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, default=Path("results"), help="default: results")
    return parser


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments, argparse.Namespace(typed=arguments))
    if args.seeds is not None and args.seeds < 1:
        raise UserError(f"--seeds {args.seeds}: at least 1 is needed")
    if job.launcher() is not None:
        raise UserError("tables runs in one process; train the runs on several with train, then tables judges them")
    data = _data(args.data)
    from jaxstroke import papers
    from jaxstroke.papers import plan

    tables = papers.chosen(args.name)
    _check_rows(args.rows, tables)
    how = {"scale": args.scale, "repeats": args.seeds, "data": data}
    folder = args.out / "results"
    wanted = plan.of_tables(tables, args.rows, **how)
    todo = [one for one in wanted if not plan.is_measured(plan.kept(folder, one))]
    if args.list:
        for table in tables:
            own = plan.of_tables([table], args.rows, **how)
            there = sum(plan.is_measured(plan.kept(folder, one)) for one in own)
            console.say(f"{table.name:18} {there:3} of {len(own):3} runs  {table.where}: {table.title}")
        return 0
    failed: list[str] = []
    if todo and not args.no_training:
        console.say(_beforehand(folder, todo, plan.of_tables(papers.chosen(), **how)))
        code = _measure(folder, todo, failed)
        if code:
            console.next_command("tables", *args.typed)
            return code
    if not args.no_training:
        from jaxstroke.papers import measure

        for page in measure.pages(wanted):
            console.say(f"to look at: {page}")
    _say_and_write(args.out, tables, how, draw=not args.no_training)
    if failed:
        console.warn(f"{len(failed)} runs failed, and the tables say which; the same command tries them again")
        return 1
    return 0


def _data(words: Sequence[str]) -> dict[str, Path]:
    from jaxstroke.data.layouts import find_layout
    from jaxstroke.data.source import ENVIRONMENT

    if os.environ.get(ENVIRONMENT):
        raise UserError(f"{ENVIRONMENT} names one data set, and tables may need several: unset it, and give --data")
    found = {}
    for word in words:
        layout, sign, path = word.partition("=")
        if not sign or not path:
            raise UserError(f"--data {word}: write it as LAYOUT=PATH, for example --data isles2018=/data/ISLES2018")
        if not Path(path).is_dir():
            raise UserError(f"--data {word}: there is no folder {path}")
        found[find_layout(layout).name] = Path(path)
    return found


def _check_rows(rows: Sequence[str], tables: Sequence[Table]) -> None:
    from jaxstroke.errors import nearest

    known = [row.name for table in tables for row in table.rows]
    for row in rows:
        if row not in known:
            raise UserError(f"--rows {row}: there is no such row.{nearest(row, known)}")


def _beforehand(folder: Path, todo: Sequence[Planned], every: Sequence[Planned]) -> str:
    from jaxstroke.papers import plan

    seconds = plan.seconds(folder, todo, every)
    told = f"{len(todo)} runs are to be trained and judged, one after another"
    if seconds is None:
        return f"{told}; how long that takes is known once the first is measured"
    return f"{told}: about {seconds / 3600:.1f} hours, as the measured ones took"


def _measure(folder: Path, todo: Sequence[Planned], failed: list[str]) -> int:
    """Returns the code of a stop; a run that fails is kept as failed, and the others go on."""
    from jaxstroke.papers import measure, plan

    for number, one in enumerate(todo, start=1):
        console.say(f"run {number} of {len(todo)}: {one.run}")
        code, found = measure.measure(one)
        if code:
            return code
        plan.keep(folder, one, found)
        if "failed" in found:
            failed.append(one.file_name)
            console.warn(f"{one.run}: {found['failed']}; the others go on")
    return 0


def _say_and_write(out: Path, tables: Sequence[Table], how: dict, *, draw: bool) -> None:
    from jaxstroke import papers
    from jaxstroke.papers import filled, written

    found = {table.name: (table, filled.filled(table, out / written.FOLDER, **how)) for table in papers.chosen()}
    for table in tables:
        _print(*found[table.name])
    drawn = _figures(out / written.FOLDER, tables if draw else (), how)
    page = written.write(out, list(found.values()), drawn, scale=how["scale"])
    console.say(f"all tables, published beside measured: {page}; CSV and PNG of each: {out / written.FOLDER}")


def _figures(folder: Path, tables: Sequence[Table], how: dict) -> list[tuple[Figure, bool]]:
    """Draws those of the tables that can be drawn; returns every figure that lies there, and whether of phantoms."""
    from jaxstroke import papers
    from jaxstroke.papers import drawn, plan

    every = papers.chosen()
    for figure in papers.figures(tables):
        if drawn.draw(figure, drawn.planned(figure, every, **how), folder):
            console.say(f"{figure.where}: {folder / figure.file_name}")
    there = []
    for figure in papers.figures(every):
        kept = plan.kept(folder, drawn.planned(figure, every, **how))
        if plan.is_measured(kept) and (folder / figure.file_name).is_file():
            there.append((figure, bool(kept["phantom"])))
    return there


def _print(table: Table, rows: Sequence[Filled]) -> None:
    from jaxstroke.papers import written

    phantom = any(tree["phantom"] for row in rows for tree in row.about)
    headings = [word for column in table.columns for word in (f"{column.heading}, published", "ours")]
    title = f"{table.where}: {table.title}; published on {table.published_on}" + (" [ours: PHANTOM]" if phantom else "")
    console.table(["row", *headings, "runs"], [written.cells(table, row) for row in rows], title=title)
    for row in rows:
        for line in row.missing:
            console.say(f"missing, {row.row.name}: {line}")
    console.say()


if __name__ == "__main__":
    door.run(main)
