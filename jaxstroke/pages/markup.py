"""Pieces of a page as HTML text. Whatever comes from outside goes through `text` or `as_json`."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxstroke.metrics import scorecard
from jaxstroke.metrics import strata as sorting
from jaxstroke.metrics.scorecard import COLUMNS

SHOWN = (
    "dice",
    "precision",
    "recall",
    "hd95_mm",
    "volume_ml",
    "reference_volume_ml",
    "volume_difference_ml",
    "lesion_f1",
    "missed_lesions",
    "false_positive_regions",
)
SUMMED = ("dice", "precision", "recall", "hd95_mm", "volume_ml", "volume_difference_ml", "lesion_f1")
PHANTOM = '<span class="phantom">phantom data</span>'


def text(value: object) -> str:
    return html.escape(str(value), quote=True)


def as_json(value: Any) -> str:
    """JSON that may stand inside a script element: no tag and no comment can begin in it."""
    return inside_script(json.dumps(value, allow_nan=False))


def inside_script(json_text: str) -> str:
    return json_text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def section(name: str, title: str, body: str, *, phantom: bool) -> str:
    mark = PHANTOM if phantom else ""
    heading = f'<h2 id="{name}-title">{text(title)}{mark}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}{body}</section>'


def figure(drawing: str, caption: str, *, phantom: bool) -> str:
    return f"<figure>{drawing}<figcaption>{text(caption)}{PHANTOM if phantom else ''}</figcaption></figure>"


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    told = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs)
    return f"<dl>{told}</dl>"


def table(header: Sequence[str], lines: Sequence[Sequence[str]], *, caption: str) -> str:
    """The cells of `lines` are HTML already."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{line[0]}</th>{"".join(f"<td>{cell}</td>" for cell in line[1:])}</tr>' for line in lines
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table><caption>{text(caption)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def sums(rows: Sequence[Mapping[str, Any]], systems: Sequence[str], *, caption: str) -> str:
    """Mean and deviation of every system, and the 95 % interval of the mean."""
    lines = []
    for system in systems:
        own = [row for row in rows if row["system"] == system]
        if own:
            summaries = scorecard.summarise(own)
            lines.append([text(system), *(_summary(name, summaries.get(name)) for name in SUMMED)])
    return table(["system", *(COLUMNS[name].heading for name in SUMMED)], lines, caption=caption)


def strata(rows: Sequence[Mapping[str, Any]], systems: Sequence[str], *, caption: str) -> str:
    lines = []
    for stratum, members in sorting.by_volume(rows).items():
        for system in systems:
            own = [row for row in members if row["system"] == system]
            if own:
                summaries = scorecard.summarise(own)
                cells = [_summary(name, summaries.get(name)) for name in SUMMED]
                lines.append([text(stratum), text(system), str(len(own)), *cells])
    header = ["reference volume", "system", "studies", *(COLUMNS[name].heading for name in SUMMED)]
    return table(header, lines, caption=caption)


def _summary(name: str, summary: scorecard.Summary | None) -> str:
    if summary is None or not summary.n:
        return "undefined"
    column = COLUMNS[name]
    told, interval = column.text(summary.mean), ""
    if not math.isnan(summary.sd):
        told += f" \N{PLUS-MINUS SIGN} {column.text(summary.sd)}"
        interval = f"<small>[{column.text(summary.low)}, {column.text(summary.high)}]</small>"
    return told + (f" ({summary.n})" if summary.undefined else "") + interval


def studies(rows: Sequence[Mapping[str, Any]], number_of: Mapping[str, int]) -> str:
    """The table of studies: sorted and filtered by the page's script, complete without it."""
    heads = [("study", False), ("annotation", False), ("system", False)]
    cells = [_head(title, numeric) for title, numeric in heads] + [_head(COLUMNS[name].heading, True) for name in SHOWN]
    body = "".join(_study(row, number_of[row["study"]]) for row in rows)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Every study"><table id="studies-table">'
        f"<thead><tr>{''.join(cells)}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(title: str, numeric: bool) -> str:
    kind = "number" if numeric else "text"
    return f'<th scope="col" data-kind="{kind}"><button type="button">{text(title)}</button></th>'


def _study(row: Mapping[str, Any], number: int) -> str:
    stratum = sorting.volume_stratum(float(row.get("reference_volume_ml", math.nan)))
    scores = []
    for name in SHOWN:
        value = float(row.get(name, math.nan))
        plain = "" if math.isnan(value) else f"{value:.9g}"
        scores.append(f'<td data-value="{plain}">{COLUMNS[name].text(value)}</td>')
    return (
        f'<tr data-system="{text(row["system"])}" data-target="{text(row["target"])}" data-stratum="{text(stratum)}">'
        f'<th scope="row"><a href="#study-{number}">{text(row["study"])}</a></th>'
        f"<td>{text(row['target'])}</td><td>{text(row['system'])}</td>{''.join(scores)}</tr>"
    )


def choice(name: str, title: str, values: Sequence[str], *, every: str = "") -> str:
    """A labelled list to choose from; `every` is the entry that leaves nothing out."""
    entries = ([("", every)] if every else []) + [(value, value) for value in values]
    options = "".join(f'<option value="{text(value)}">{text(shown)}</option>' for value, shown in entries)
    return f'<label>{text(title)} <select id="{name}">{options}</select></label>'
