"""What a report tells of its runs, section by section."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxstroke.metrics.scorecard import COLUMNS
from jaxstroke.pages import charts, markup
from jaxstroke.pages.charts import Point
from jaxstroke.runs.folder import RunFolder

Row = Mapping[str, Any]
_EXTREMES = 4


def training(runs: Sequence[RunFolder], abouts: Sequence[Mapping[str, Any]], *, phantom: bool) -> str:
    parts = []
    for run, about in zip(runs, abouts, strict=True):
        told = markup.facts(_trained(run, about))
        heading = f"<h3>{markup.text(run.path.name)}</h3>" if len(runs) > 1 else ""
        parts.append(heading + told + _curves(run, phantom))
    return "".join(parts)


def _trained(run: RunFolder, about: Mapping[str, Any]) -> list[tuple[str, object]]:
    experiment, split = run.experiment(), about.get("split", {})
    data = experiment.data
    counts = [f"{len(split.get(part, ()))} {word}" for part, word in
              (("train", "to train on"), ("validation", "to validate"), ("test", "held out"))]  # fmt: skip
    device = about.get("device", {})
    scored = [row for row in run.journal.rows() if row.get("dice") is not None]
    best = max(scored, key=lambda row: row["dice"], default=None)
    plane = f"{data.spacing_mm:g} mm" if data.spacing_mm else "whole field of view"
    pairs: list[tuple[str, object]] = [
        ("experiment", f"{experiment.name} ({experiment.scale} scale)"),
        ("network", ", ".join([experiment.model.name, *(f"{k} {v}" for k, v in experiment.model.options.items())])),
        ("paper", experiment.paper),
        ("images", " | ".join(" ".join(group) for group in data.groups)),
        ("annotations", ", ".join(data.targets)),
        ("data set", f"{data.layout}{' (phantom)' if about['phantom'] else ''}, {about.get('data_fingerprint')}"),
        ("studies", ", ".join(counts)),
        ("input", f"{data.example} of {data.size} x {data.size}, {plane}"),
        ("epochs", f"{experiment.training.epochs}, batch {data.batch}"),
        ("best validation Dice", f"{best['dice']:.3f} in epoch {best['epoch']}" if best else "none yet"),
        ("seed", about.get("seed")),
        ("fold", f"{data.fold + 1} of {data.folds}"),
        ("device", f"{device.get('count', '?')} x {device.get('kind', '?')}"),
        ("commit", about.get("commit") or "installed from a wheel"),
    ]  # fmt: skip
    return pairs


def _curves(run: RunFolder, phantom: bool) -> str:
    rows = run.journal.rows()
    if not rows:
        return "<p>No epoch has been validated yet.</p>"

    def line(name: str) -> list[tuple[float, float]]:
        return [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]

    drawings = [
        (charts.curves({"training": line("loss"), "validation": line("validation_loss")}, "epoch", "loss"), "Loss"),
        (charts.curves({"Dice": line("dice")}, "epoch", "validation Dice", high=1.0), "Dice on the validation studies"),
        (charts.curves({"HD95": line("hd95_mm")}, "epoch", "validation HD95 (mm)"), "HD95 on the validation studies"),
    ]
    figures = "".join(markup.figure(drawing, caption, phantom=phantom) for drawing, caption in drawings)
    strip = run.path / "strip.png"
    if strip.exists():
        picture = base64.b64encode(strip.read_bytes()).decode("ascii")
        image = f'<img alt="The same validation slices, epoch by epoch" src="data:image/png;base64,{picture}">'
        figures += markup.figure(image, "The same validation slices, epoch by epoch", phantom=phantom)
    return f'<div class="figures">{figures}</div>'


def judged(
    rows: Sequence[Row], systems: Sequence[str], number_of: Mapping[str, int], split: str, *, phantom: bool
) -> list[str]:
    """Scores, volumes and strata, each a section; one set of figures for each annotation."""
    scores, volumes, strata = [], [], []
    targets = list(dict.fromkeys(row["target"] for row in rows))
    for target in targets:
        own = [row for row in rows if row["target"] == target]
        heading = f"<h3>{markup.text(target)}</h3>" if len(targets) > 1 else ""
        caption = f"Mean \N{PLUS-MINUS SIGN} standard deviation [95 % interval of the mean] over the {split} studies"
        scores += [
            heading,
            markup.sums(own, systems, caption=caption),
            _violins(own, systems, number_of, phantom),
        ]
        volumes += [heading, _volumes(own, systems, number_of, phantom)]
        strata += [heading, markup.strata(own, systems, caption=f"{caption}, by the volume of the reference")]
    return [
        markup.section("scores", "Scores", "".join(scores), phantom=phantom),
        markup.section("volumes", "Volumes", "".join(volumes), phantom=phantom),
        markup.section("strata", "By the volume of the lesion", "".join(strata), phantom=phantom),
    ]


def _points(rows: Sequence[Row], systems: Sequence[str], number_of: Mapping[str, int], x: str, y: str) -> list[Point]:
    return [
        Point(row[x], row[y], systems.index(row["system"]), _told(row), f"#study-{number_of[row['study']]}")
        for row in rows
    ]


def _told(row: Row) -> str:
    names = ("dice", "volume_ml", "reference_volume_ml")
    scores = ", ".join(f"{COLUMNS[name].title} {COLUMNS[name].text(row[name])}" for name in names)
    return f"{row['study']}, {row['system']}: {scores}"


def _violins(rows: Sequence[Row], systems: Sequence[str], number_of: Mapping[str, int], phantom: bool) -> str:
    drawings = []
    for name in ("dice", "hd95_mm", "lesion_f1", "volume_difference_ml"):
        points = _points(rows, systems, number_of, name, name)
        groups = [[point for point in points if point.system == number] for number in range(len(systems))]
        high = 1.0 if name in ("dice", "lesion_f1") else None
        axis = charts.linear(COLUMNS[name].heading, [point.y for point in points], low=0.0, high=high)
        drawings.append(markup.figure(charts.violins(groups, systems, axis), COLUMNS[name].title, phantom=phantom))
    return f'<div class="figures">{"".join(drawings)}</div>'


def _volumes(rows: Sequence[Row], systems: Sequence[str], number_of: Mapping[str, int], phantom: bool) -> str:
    points = _points(rows, systems, number_of, "reference_volume_ml", "volume_ml")
    x = charts.volume_axis("reference volume (mL)", [point.x for point in points])
    y = charts.volume_axis("predicted volume (mL)", [point.y for point in points])
    across = charts.scatter(points, systems, x, y, extra=charts.identity(x, y), label="Predicted over reference volume")
    first = [row for row in rows if row["system"] == systems[0]]
    means = [{**row, "mean": (row["volume_ml"] + row["reference_volume_ml"]) / 2,
              "difference": row["volume_ml"] - row["reference_volume_ml"]} for row in first]  # fmt: skip
    altman = charts.bland_altman(
        _points(means, systems, number_of, "mean", "difference"),
        systems,
        [row["volume_ml"] for row in first],
        [row["reference_volume_ml"] for row in first],
    )
    return (
        '<div class="figures">'
        + markup.figure(across, "Volume, predicted against reference; dashed where they are equal", phantom=phantom)
        + markup.figure(altman, f"Bland-Altman: {systems[0]}, bias and 95 % limits of agreement", phantom=phantom)
        + "</div>"
    )


def extremes(ordered: Sequence[str], rows: Sequence[Row], systems: Sequence[str], views: Mapping[str, str]) -> str:
    """The worst and the best studies with a picture, where they have a view."""
    dice = {row["study"]: row["dice"] for row in reversed(rows) if row["system"] == systems[0]}
    defined = [study for study in ordered if not math.isnan(dice.get(study, math.nan))]
    most = min(_EXTREMES, max(1, len(defined) // 2))
    groups = (("Worst", defined[:most]), ("Best", defined[::-1][:most]))
    number_of = {study: number for number, study in enumerate(ordered)}
    parts = []
    for title, members in groups:
        cards = "".join(_card(study, number_of[study], dice[study], views.get(study)) for study in members)
        parts.append(f'<div><h3>{title} by Dice</h3><ul class="cards">{cards}</ul></div>')
    return f'<div class="extremes">{"".join(parts)}</div>' if defined else ""


def _card(study: str, number: int, dice: float, view: str | None) -> str:
    found = json.loads(view).get("picture", "") if view else ""
    picture = base64.b64encode(base64.b64decode(found)).decode("ascii") if found else ""
    image = f'<img alt="" src="data:image/png;base64,{picture}">' if picture else ""
    return (
        f'<li><a href="#study-{number}">{image}<span>{markup.text(study)}</span>'
        f"<strong>Dice {dice:.3f}</strong></a></li>"
    )


def about(abouts: Sequence[Mapping[str, Any]]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in abouts[0].get("versions", {}).items())
    return (
        f"<p>Made by jaxstroke from what it left in the run folder; trained with {markup.text(versions)}. The page "
        "holds everything that it shows and opens no connection; its own rules forbid every script but its own. "
        "Values and volumes in the viewer are rounded and cropped to the head; every score was taken before, on the "
        "study's own grid.</p>"
        "<p><strong>Research software, not a medical device.</strong> Nothing that it prints or draws may guide the "
        "care of a patient.</p>"
    )
