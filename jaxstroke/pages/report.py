"""A run's report: one HTML file that needs nothing else, neither a network nor the data nor the program.

    write(Path("report.html"), [RunFolder(path)])            one run
    write(out, folds, title="dme_isles18, five folds")       several runs: their held-out studies in one table

It holds what `evaluate` left of the runs: scores, and of each study a view (`view.py`).  Where the views of all studies
would be too large for one page, the worst and the best studies have theirs, and the others say so.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxstroke import __version__, console, files
from jaxstroke.errors import UserError
from jaxstroke.metrics.scorecard import COLUMNS
from jaxstroke.metrics.strata import VOLUMES
from jaxstroke.pages import markup, story
from jaxstroke.pages.evaluated import Evaluated, evaluated, view_text
from jaxstroke.runs.folder import RunFolder

MOST_BYTES = 55_000_000  # of all views of a page; a page of 60 MB still opens at once
VIEWER = "niivue-0.69.0.umd.js"


def write(out: Path, runs: Sequence[RunFolder], *, split: str = "test", title: str = "") -> Path:
    """Makes the page of the runs, as their evaluations of `split` are now; returns where it lies."""
    parts = [evaluated(run, split) for run in runs]
    abouts = [run.about() for run in runs]
    phantom = any(about["phantom"] for about in abouts)
    rows = _rows(parts)
    systems = list(dict.fromkeys(row["system"] for row in rows))
    ordered = _worst_first(rows, systems)
    number_of = {study: number for number, study in enumerate(ordered)}
    views = _views(parts, ordered)
    name = title or f"{runs[0].experiment().name}: {runs[0].experiment().title}"
    sections = [
        markup.section("training", "What was trained", story.training(runs, abouts, phantom=phantom), phantom=phantom),
        *(story.judged(rows, systems, number_of, split, phantom=phantom) if rows else [_not_judged(runs, phantom)]),
    ]
    if rows:
        worst_best = story.extremes(ordered, rows, systems, {study: views[study] for study in views})
        body = worst_best + _filters(rows, systems) + markup.studies(_sorted(rows, number_of, systems), number_of)
        sections.append(markup.section("studies", "Every study", body, phantom=phantom))
    sections.append(markup.section("about", "About this page", story.about(abouts), phantom=phantom))
    data = {
        "studies": [{"name": study, "patient": _patient(rows, study), "view": study in views} for study in ordered],
        "rows": [{**row, **_finite(row)} for row in rows],
        "columns": {key: {"title": COLUMNS[key].heading, "decimals": COLUMNS[key].decimals} for key in markup.SHOWN},
        "systems": systems,
        "phantom": phantom,
    }
    files.write_text(out, _page(name, "".join(sections), data, [views.get(study, "") for study in ordered], phantom))
    return out


def _rows(parts: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Every row once: a threshold rule answers the same whichever run it was judged beside."""
    rows = {}
    for part in parts:
        for row in part.rows:
            rows.setdefault((row["study"], row["target"], row["system"]), row)
    return list(rows.values())


def _worst_first(rows: Sequence[dict[str, Any]], systems: Sequence[str]) -> list[str]:
    """Studies by the mean Dice of the first system, undefined last."""
    dice: dict[str, list[float]] = {row["study"]: [] for row in rows}
    for row in rows:
        if row["system"] == systems[0] and not math.isnan(row.get("dice", math.nan)):
            dice[row["study"]].append(row["dice"])
    means = {study: sum(values) / len(values) if values else math.inf for study, values in dice.items()}
    return sorted(means, key=lambda study: means[study])


def _sorted(rows: Sequence[dict[str, Any]], number_of: dict[str, int], systems: Sequence[str]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (systems.index(row["system"]), number_of[row["study"]], row["target"]))


def _views(parts: Sequence[Evaluated], ordered: Sequence[str]) -> dict[str, str]:
    """The view of each study as JSON text, from both ends of the order inwards, as long as there is room."""
    where = {study: path for part in reversed(parts) for study, path in part.views.items()}
    inwards = [study for pair in zip(ordered, reversed(ordered), strict=True) for study in pair][: len(ordered)]
    views, room = {}, MOST_BYTES
    for study in dict.fromkeys(inwards):
        text = view_text(where[study]) if study in where else ""
        if text and len(text) <= room:
            views[study] = text
            room -= len(text)
    return views


def _patient(rows: Sequence[dict[str, Any]], study: str) -> str:
    return next(row["patient"] for row in rows if row["study"] == study)


def _finite(row: dict[str, Any]) -> dict[str, float | None]:
    return {name: row[name] if math.isfinite(row[name]) else None for name in COLUMNS if name in row}


def _not_judged(runs: Sequence[RunFolder], phantom: bool) -> str:
    told = f"<p>Not judged yet. <code>jaxstroke evaluate {markup.text(runs[0].path.name)}</code> judges it.</p>"
    return markup.section("scores", "Scores", told, phantom=phantom)


def _filters(rows: Sequence[dict[str, Any]], systems: Sequence[str]) -> str:
    targets = list(dict.fromkeys(row["target"] for row in rows))
    return (
        '<div class="filters"><label>Find a study <input id="find" type="search" autocomplete="off"></label>'
        + markup.choice("filter-system", "system", systems, every="all" if len(systems) > 1 else "")
        + (markup.choice("filter-target", "annotation", targets, every="all") if len(targets) > 1 else "")
        + markup.choice("filter-stratum", "volume", VOLUMES, every="all")
        + '<span id="count" role="status"></span></div>'
    )


def _page(title: str, sections: str, data: dict[str, Any], views: Sequence[str], phantom: bool) -> str:
    scripts = {name: _part(name) for name in ("table.js", "unpack.js", "viewer.js", VIEWER)}
    mine = "\n".join(scripts[name] for name in ("table.js", "unpack.js", "viewer.js"))
    embedded = "\n".join(
        f'<script type="application/json" id="view-{number}">{markup.inside_script(view)}</script>'
        for number, view in enumerate(views)
        if view
    )
    notice = console.PHANTOM_NOTICE if phantom else (
        "This page holds images of patients: keep it as you keep their scans."
    )  # fmt: skip
    return string.Template(_part("page.html")).substitute(
        title=markup.text(title),
        policy=_policy(mine, scripts[VIEWER]),
        style=_part("page.css"),
        notice=markup.text(notice),
        notice_kind="phantom-notice" if phantom else "patient-notice",
        mark=markup.PHANTOM if phantom else "",
        sections=sections,
        data=markup.as_json(data),
        niivue=scripts[VIEWER],
        script=mine,
        views=embedded,
        version=markup.text(__version__),
        licence=markup.text(_part("NIIVUE-LICENSE.txt")),
    )


def _policy(*scripts: str) -> str:
    """Only these very scripts may run, and none may open a connection: a study's name cannot become a program."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; connect-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _part(name: str) -> str:
    try:
        return importlib.resources.files("jaxstroke.pages").joinpath("parts", name).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{name}: this part of the program cannot be read ({error}); install it again") from None
