"""Charts as SVG text: drawn once here, coloured by the page's style sheet, legible without any script.

A system has a colour and a shape of its own everywhere.  What stands for a study is a link to that study.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxstroke.metrics import statistics

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 30, 44


@dataclasses.dataclass(frozen=True)
class Point:
    """One study of one system: where it lies, what is said of it, and the study that a click opens."""

    x: float
    y: float
    system: int
    told: str
    link: str


@dataclasses.dataclass(frozen=True)
class Axis:
    title: str
    low: float
    high: float
    ticks: Sequence[float]
    scale: Callable[[float], float] = lambda value: value

    def at(self, value: float) -> float:
        """0..1 along the axis."""
        low, high = self.scale(self.low), self.scale(self.high)
        return (self.scale(value) - low) / ((high - low) or 1.0)


def linear(title: str, values: Sequence[float], *, low: float | None = None, high: float | None = None) -> Axis:
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    bottom = min(finite) if low is None else low
    top = max(finite) if high is None else high
    top = top if top > bottom else bottom + 1.0
    step = _nice((top - bottom) / 5)
    first, last = math.floor(bottom / step) * step, math.ceil(top / step - 1e-9) * step
    count = round((last - first) / step)
    return Axis(title, first, last, [first + step * number for number in range(count + 1)])


def volume_axis(title: str, values: Sequence[float]) -> Axis:
    """Millilitres on a scale of log(1 + v), on which small lesions and none at all are seen beside large ones."""
    top = max([value for value in values if math.isfinite(value)] or [1.0], default=1.0)
    ticks = [value for value in (0, 1, 3, 10, 30, 100, 300, 1000) if value <= max(top * 1.3, 3)]
    return Axis(title, 0.0, max(top * 1.1, ticks[-1]), ticks, scale=math.log1p)


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(step, 1e-12)))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= step - 1e-12), power * 10)


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, *, high: float | None = None) -> str:
    """Lines over epochs, each named at its end."""
    finite = {name: [(a, b) for a, b in points if math.isfinite(b)] for name, points in lines.items()}
    across = linear(x, [a for points in finite.values() for a, _ in points], low=0.0)
    up = linear(y, [b for points in finite.values() for _, b in points], low=0.0, high=high)
    body, named = [], []
    for number, (name, points) in enumerate(finite.items()):
        path = " ".join(f"{_x(across, a):.1f},{_y(up, b):.1f}" for a, b in points)
        body.append(f'<polyline class="line c{number % 6} d{number % 3}" points="{path}"/>')
        if len(points) == 1:
            body.append(_mark(_x(across, points[0][0]), _y(up, points[0][1]), number))
        named.append((name, number))
    return _framed(across, up, "".join(body) + _legend(named), f"{y} over {x}")


def scatter(points: Sequence[Point], systems: Sequence[str], x: Axis, y: Axis, *, extra: str = "", label: str) -> str:
    body = extra + "".join(_linked(_mark(_x(x, p.x), _y(y, p.y), p.system), p) for p in points)
    shown = sorted({point.system for point in points})
    return _framed(x, y, body + _legend([(systems[number], number) for number in shown]), label)


def identity(x: Axis, y: Axis) -> str:
    top = min(x.high, y.high)
    steps = np.linspace(0, top, 40)
    path = " ".join(f"{_x(x, value):.1f},{_y(y, value):.1f}" for value in steps)
    return f'<polyline class="guide" points="{path}"/>'


def bland_altman(
    points: Sequence[Point], systems: Sequence[str], first: Sequence[float], second: Sequence[float]
) -> str:
    """Difference over mean of two volumes, with bias and limits of agreement of the first system."""
    agreement = statistics.bland_altman(first, second)
    levels = (agreement.lower_limit, agreement.mean_difference, agreement.upper_limit)
    lines = [level for level in levels if math.isfinite(level)]
    x = volume_axis("mean of predicted and reference volume (mL)", [point.x for point in points])
    y = linear("predicted - reference (mL)", [*(point.y for point in points), *lines, 0.0])
    body = []
    for level, word in zip(levels, ("-1.96 SD", "bias", "+1.96 SD"), strict=True):
        if math.isfinite(level):
            height = _y(y, level)
            body.append(f'<line class="guide" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
            body.append(f'<text class="small" x="{WIDTH - _RIGHT - 4}" y="{height - 3:.1f}" text-anchor="end">'
                        f"{word} {level:+.1f} mL</text>")  # fmt: skip
    return scatter(points, systems, x, y, extra="".join(body), label="Bland-Altman plot of volumes")


def violins(groups: Sequence[Sequence[Point]], systems: Sequence[str], y: Axis) -> str:
    """A violin, a box and every study for each system; `x` of a point is not used."""
    across = Axis("", -0.5, len(groups) - 0.5, [])
    width = (WIDTH - _LEFT - _RIGHT) / len(groups)
    body, unit = [], np.random.default_rng(0)
    for number, points in enumerate(groups):
        centre = _x(across, number)
        values = np.asarray([point.y for point in points if math.isfinite(point.y)])
        if values.size > 1:
            body += [_violin(values, y, centre, 0.36 * width, number), _box(values, y, centre)]
        for point in points:
            if math.isfinite(point.y):
                aside = centre + float(unit.uniform(-0.12, 0.12)) * width
                body.append(_linked(_mark(aside, _y(y, point.y), number), point))
        name = html.escape(systems[number])
        body.append(f'<text x="{centre:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{name}</text>')
        body.append(f'<text class="small" x="{centre:.1f}" y="{HEIGHT - _BOTTOM + 33}" text-anchor="middle">'
                    f"n = {values.size}</text>")  # fmt: skip
    return _framed(across, y, "".join(body), f"{y.title} by system")


def _violin(values: np.ndarray, y: Axis, centre: float, half: float, number: int) -> str:
    """The density of the values, by normal kernels of Silverman's width, cut at the extremes."""
    spread = min(values.std(ddof=1), (np.percentile(values, 75) - np.percentile(values, 25)) / 1.34) or values.std()
    kernel = max(0.9 * spread * values.size**-0.2, 1e-3 * (y.high - y.low))
    at = np.linspace(values.min(), values.max(), 48)
    density = np.exp(-0.5 * ((at[:, None] - values) / kernel) ** 2).sum(axis=1)
    wide = half * density / density.max()
    right = [f"{centre + w:.1f},{_y(y, value):.1f}" for w, value in zip(wide, at, strict=True)]
    left = [f"{centre - w:.1f},{_y(y, value):.1f}" for w, value in zip(wide[::-1], at[::-1], strict=True)]
    return f'<polygon class="violin c{number % 6}" points="{" ".join(right + left)}"/>'


def _box(values: np.ndarray, y: Axis, centre: float) -> str:
    low, middle, high = (_y(y, float(one)) for one in np.percentile(values, (25, 50, 75)))
    bottom, top = _y(y, float(values.min())), _y(y, float(values.max()))
    return (
        f'<line class="box" x1="{centre:.1f}" x2="{centre:.1f}" y1="{bottom:.1f}" y2="{top:.1f}"/>'
        f'<rect class="box" x="{centre - 9:.1f}" width="18" y="{high:.1f}" height="{max(low - high, 0.5):.1f}"/>'
        f'<line class="median" x1="{centre - 9:.1f}" x2="{centre + 9:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    )


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.at(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.at(value) * (HEIGHT - _TOP - _BOTTOM)


def _mark(x: float, y: float, system: int) -> str:
    """A circle, a square, a triangle or a rhombus: systems differ in shape as well as in colour."""
    colour, r = f"c{system % 6}", 4.2
    if system % 4 == 0:
        return f'<circle class="mark {colour}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    corners = {
        1: ((-r, -r), (r, -r), (r, r), (-r, r)),
        2: ((0, -1.3 * r), (1.2 * r, r), (-1.2 * r, r)),
        3: ((0, -1.4 * r), (1.4 * r, 0), (0, 1.4 * r), (-1.4 * r, 0)),
    }[system % 4]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="mark {colour}" points="{points}"/>'


def _linked(mark: str, point: Point) -> str:
    """Not in the tab order: the table leads to every study by keyboard."""
    told = html.escape(point.told)
    return f'<a href="{html.escape(point.link, quote=True)}" tabindex="-1"><title>{told}</title>{mark}</a>'


def _legend(named: Sequence[tuple[str, int]]) -> str:
    """In one line above the plot, where no data lie."""
    parts, x = [], float(_LEFT)
    for name, number in named:
        parts.append(_mark(x + 6, 12, number) + f'<text x="{x + 16:.0f}" y="16">{html.escape(name)}</text>')
        x += 30 + 6.6 * len(name)
    return f'<g class="legend">{"".join(parts)}</g>'


def _framed(x: Axis, y: Axis, body: str, label: str) -> str:
    lines = []
    for tick in y.ticks:
        height = _y(y, tick)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for tick in x.ticks:
        across = _x(x, tick)
        lines.append(f'<line class="grid" x1="{across:.1f}" x2="{across:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        lines.append(f'<text x="{across:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:.6g}</text>')
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    for title, where in ((x.title, f'x="{(_LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 8}"'),
                         (y.title, f'transform="translate(14 {middle:.0f}) rotate(-90)"')):  # fmt: skip
        lines.append(f'<text {where} text-anchor="middle">{html.escape(title)}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label, quote=True)}">'
        f"{''.join(lines)}{body}</svg>"
    )
