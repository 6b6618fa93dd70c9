"""Tables as they are written: a page of Markdown, a CSV and a PNG a table, published and measured side by side."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.papers import cost
from jaxstroke.papers.declared import OF_A_RUN, SIZES, Column, Figure, Table, number
from jaxstroke.papers.filled import NOT_MEASURED, Filled
from jaxstroke.pictures import published

PAGE, FOLDER = "results.md", "results"
_CLEAR = 0.05  # adjusted by Holm
Found = Sequence[tuple[Table, Sequence[Filled]]]
Drawn = Sequence[tuple[Figure, bool]]  # and whether of phantoms


def write(out: Path, found: Found, drawn: Drawn = (), *, scale: str) -> Path:
    """The page, and beside it the files of each table of which anything is measured; returns the page.

    `drawn` are the figures whose pictures lie there.
    """
    for table, rows in found:
        if _phantom(rows) is not None:
            mark = bool(_phantom(rows))
            files.write_text(out / FOLDER / f"{table.name}.csv", _csv(table, rows))
            lines = {row.row.name: (number(row.row.figures[0]), row.by_run) for row in rows}
            column = table.columns[0]
            scaled = {name: (was, tuple(v * column.factor for v in now)) for name, (was, now) in lines.items()}
            title = f"{table.where}: {table.title}"
            published.beside(scaled, out / FOLDER / f"{table.name}.png", title=title, axis=column.heading, phantom=mark)
    files.write_text(out / PAGE, page(found, drawn, scale=scale))
    return out / PAGE


def page(found: Found, drawn: Drawn = (), *, scale: str) -> str:
    some = [(table, rows) for table, rows in found if _phantom(rows) is not None]
    none = [table for table, rows in found if _phantom(rows) is None]
    lines = [
        "# Results",
        "",
        "Written by `jaxstroke tables`; do not edit. Every table holds the paper's figures and ours side by side, each",
        "of the data that are named above it. **Where these differ, nothing follows from one being above the other.**",
        "",
    ]
    if any(_phantom(rows) for _, rows in some):
        lines += ["**Figures marked [PHANTOM] are of phantom studies and say nothing about real stroke.**", ""]
    took = [(tree["command"], tree["seconds"]) for _, rows in some for row in rows for tree in row.about]
    known = {tuple(command): seconds for command, seconds in took if seconds}
    if known:
        hours = sum(known.values()) / 3600
        lines += [f"{len(known)} runs on this page took {hours:.1f} hours together; of the others it is not known.", ""]
    for table, rows in some:
        lines += _section(table, rows)
    for figure, phantom in drawn:
        mark = " [PHANTOM]" if phantom else ""
        lines += [f"## {figure.where}: {figure.title}{mark}", ""]
        lines += [f"![{figure.title}]({FOLDER}/{figure.file_name})", ""]
        lines += [f"Drawn of our own run of `{figure.row}` in `{figure.table}`; the paper's figure is not shown.", ""]
    lines += cost.section(found)
    if none:
        lines += ["## Not measured", "", f"Nothing of these tables is measured at {scale} scale:", ""]
        lines += [f"- `{table.name}` ({table.where}): {table.title}, {len(table.rows)} rows" for table in none]
        lines += ["", f"`jaxstroke tables NAME{_scaled(scale)}` measures one."]
    return "\n".join(lines) + "\n"


def _section(table: Table, rows: Sequence[Filled]) -> list[str]:
    mark = " [PHANTOM]" if _phantom(rows) else ""
    abouts = [tree for row in rows for tree in row.about]
    lines = [f"## {table.where}: {table.title}{mark}", ""]
    lines += [f"Published: {table.published_on}. Ours: {_data(abouts)}. {table.note}".strip(), ""]
    headings = ["row"]
    for column in table.columns:
        own = ", full scale" if column.score in SIZES else mark
        headings += [f"{column.heading}, published", f"ours{own}"]
    lines += ["| " + " | ".join([*headings, "runs"]) + " |", "|---" * (len(headings) + 1) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(cells(table, row)) + " |")
    lines += ["", f"![{table.columns[0].heading}, published and measured]({FOLDER}/{table.name}.png)", ""]
    notes = [f"{row.row.name}: {row.row.note}." for row in rows if row.row.note]
    absent = _absent(rows)
    over = "the means of folds or seeds" if table.over == "over_folds" else "studies"
    told = (
        f'+- is the deviation of {over}; stars: Dice against "{table.against}" on the same studies, Wilcoxon '
        "adjusted by Holm, * p < .05, ** < .01, *** < .001; rows with a missing run are not tested."
    )
    return [*lines, *shown(table, rows), *_qualities(table, rows), " ".join([*absent, *notes, told]), "",
            _made(abouts), ""]  # fmt: skip


def shown(table: Table, rows: Sequence[Filled]) -> list[str]:
    """What the tested rows show, in words that follow from the figures alone."""
    tested = [row for row in rows if not math.isnan(row.p)]
    if not tested:
        return []
    dice = next((column for column in table.columns if column.score == "dice"), Column("dice", "Dice"))
    clear = sorted((row for row in tested if row.p < _CLEAR), key=lambda row: row.difference)
    below = [_differs(row, dice) for row in clear if row.difference < 0]
    above = [_differs(row, dice) for row in reversed(clear) if row.difference >= 0]
    open_ = [_differs(row, dice) for row in tested if row.p >= _CLEAR]
    pairs = sorted(row.pairs for row in tested)
    studies = " to ".join(dict.fromkeys((str(pairs[0]), str(pairs[-1]))))
    where = " on phantoms" if _phantom(rows) else ""
    words = [f'**What this shows{where}**, by Dice of {studies} studies against "{table.against}":']
    words += [f"below it {'lies' if len(below) == 1 else 'lie'} {'; '.join(below)}."] if below else []
    words += [f"Above it {'lies' if len(above) == 1 else 'lie'} {'; '.join(above)}."] if above else []
    if open_ and clear:
        words += [f"Of the others nothing is shown: {'; '.join(open_)}."]
    elif open_:
        words += [f"nothing. No difference is beyond chance: {'; '.join(open_)}."]
    return [" ".join(words), ""]


def _differs(row: Filled, dice: Column) -> str:
    p = "p < .001" if row.p < 0.001 else f"p = {row.p:.3f}"
    return f"{row.row.name} ({row.difference * dice.factor:+.{dice.decimals}f}, {p})"


def _qualities(table: Table, rows: Sequence[Filled]) -> list[str]:
    """Dice by image quality, where the data tell it."""
    words = list(dict.fromkeys(word for row in rows for word in row.by_quality))
    if not words:
        return []
    dice = next((column for column in table.columns if column.score == "dice"), Column("dice", "Dice"))
    mark = " [PHANTOM]" if _phantom(rows) else ""
    lines = [
        "| " + " | ".join([f"{dice.heading} by image quality{mark}", *words]) + " |",
        "|---" * (len(words) + 1) + "|",
    ]
    for row in rows:
        cells = []
        for word in words:
            mean, studies = row.by_quality.get(word, (math.nan, 0))
            cells.append(f"{mean * dice.factor:.{dice.decimals}f} ({studies})" if studies else "-")
        if row.by_quality:
            lines.append("| " + " | ".join([row.row.name, *cells]) + " |")
    return [*lines, ""]


def _absent(rows: Sequence[Filled]) -> list[str]:
    """Every row that lacks a run; failures each with their reason."""
    never = [row.row.name for row in rows if row.planned and not row.runs and not _failures(row)]
    told = [f"**Not measured: {'; '.join(never)}.**"] if never else []
    for row in rows:
        if row.missing and row.row.name not in never:
            told.append(f"**{row.row.name} lacks {'; '.join(row.missing)}.**")
    return told


def _failures(row: Filled) -> list[str]:
    return [line for line in row.missing if not line.endswith(NOT_MEASURED)]


def cells(table: Table, row: Filled) -> list[str]:
    found = [row.row.name]
    for column, figure in zip(table.columns, row.row.figures, strict=True):
        ours = _ours(column, row.means)
        found += [figure or "-", ours + (row.stars if column.score == "dice" else "")]
    return [*found, f"{row.runs} of {row.planned}"]


def _ours(column: Column, means: Mapping[str, tuple[float, float]]) -> str:
    if column.score not in means:  # what answers so has no such score
        return "-" if means and column.score not in (*SIZES, *OF_A_RUN) else "**missing**"
    mean, sd = means[column.score]
    if math.isnan(mean):
        return "undefined"
    text = f"{mean * column.factor:.{column.decimals}f}"
    return text if math.isnan(sd) else f"{text} +- {sd * column.factor:.{column.decimals}f}"


def _csv(table: Table, rows: Sequence[Filled]) -> str:
    content = io.StringIO()
    writer = csv.writer(content)
    headings = ("data", "table", "row", "score", "published", "measured", "sd", "p_holm", "runs", "planned", "missing")
    writer.writerow(headings)
    word = "phantom" if _phantom(rows) else "real"
    for row in rows:
        for column, figure in zip(table.columns, row.row.figures, strict=True):
            values = [value * column.factor for value in row.means.get(column.score, (math.nan, math.nan))]
            told = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
            p = f"{row.p:.4g}" if column.score == "dice" and not math.isnan(row.p) else ""
            writer.writerow([word, table.name, row.row.name, column.heading, figure, *told, p, row.runs, row.planned,
                             "; ".join(row.missing)])  # fmt: skip
    return content.getvalue()


def _phantom(rows: Sequence[Filled]) -> bool | None:
    """Whether any measured figure is of phantoms; None where nothing is measured."""
    abouts = [tree for row in rows for tree in row.about]
    return any(tree["phantom"] for tree in abouts) if abouts else None


def _data(abouts: Sequence[Mapping[str, Any]]) -> str:
    """The data sets, and how many studies were held out by a run."""
    names = sorted({f"{tree['experiment']['data']['layout']} {tree['data']}" for tree in abouts})
    held = sorted({tree["held_out"] for tree in abouts})
    scale = " and ".join(sorted({tree["experiment"]["scale"] for tree in abouts}))
    studies = " to ".join(map(str, dict.fromkeys((held[0], held[-1]))))
    return f"{', '.join(names)}, {scale} scale, {studies} studies held out by a run"


def _made(abouts: Sequence[Mapping[str, Any]]) -> str:
    """Command, device, versions and commits behind a table."""
    commits = sorted({str(tree["commit"] or "a wheel")[:12] for tree in abouts})
    versions = sorted(
        {f"jaxstroke {tree['jaxstroke']}, jax {tree['versions']['jax']}, Python {tree['python']}" for tree in abouts}
    )
    devices = sorted({f"{tree['device'].get('count', '?')} x {tree['device'].get('kind', '?')}" for tree in abouts})
    minutes = [tree["seconds"] / 60 for tree in abouts if tree["seconds"]]
    cost = f"; {min(minutes):.1f} to {max(minutes):.1f} minutes a run" if minutes else ""
    command = "jaxstroke " + shlex.join(abouts[0]["command"])
    return f"First run: `{command}`; {'; '.join(versions)}; {', '.join(devices)}; commits {', '.join(commits)}{cost}."


def _scaled(scale: str) -> str:
    return " --scale small" if scale == "small" else ""
