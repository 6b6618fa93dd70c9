"""Lists every network and rule with its size and cost, beside what the papers print.

Parameters are trained weights; MiB is their size at float32 (2^20 bytes; running statistics of batch normalisation
are listed apart, in the JSON); GMAC are 10^9 multiply-accumulates of convolutions, linear layers and matrix products
for one example.  Everything is counted from shapes: no network is run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxstroke import command, console
from jaxstroke.errors import UserError, nearest
from jaxstroke.process import door

if TYPE_CHECKING:
    from jaxstroke.models.registry import Entry, Published, Rule

COLUMNS = ("name", "input", "parameters", "MiB", "GMAC", "published M", "published MiB", "published GMAC", "source")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=command.text("networks"), description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--network", metavar="NAME", help="only this network and its variants, or this one line")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    chosen = parser.parse_args(arguments)
    # Nothing is computed, so no accelerator needs to be taken from whoever is training on it.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    lines = listing(chosen.network)
    if chosen.json:
        console.say(json.dumps(lines, indent=2))
    else:
        _print_table(lines)
        console.next_command("train", "--list")
    return 0


def listing(name: str | None = None) -> list[dict[str, Any]]:
    """One dictionary for each line of the catalogue and each rule, or for those of one network."""
    from jaxstroke.models import registry

    entries, rules = registry.catalogue(), tuple(registry.rules().values())
    if name is not None:
        known = [*registry.networks(), *(entry.name for entry in entries), *registry.rules()]
        if name not in known:
            raise UserError(f"--network {name}: there is no such network.{nearest(name, known)}")
        entries = tuple(entry for entry in entries if name in (entry.name, entry.network))
        rules = tuple(rule for rule in rules if rule.name == name)
    lines = []
    for number, entry in enumerate(entries, start=1):
        _note_progress(f"{number}/{len(entries)} {entry.name}")
        lines.append(_network_line(entry))
    _note_progress("")
    return lines + [_rule_line(rule) for rule in rules]


def _network_line(entry: Entry) -> dict[str, Any]:
    from jaxstroke.models import count

    size = count.measure(entry)
    line = {
        "name": entry.name,
        "network": entry.network,
        "input": list(count.input_shape(entry)),
        "parameters": size.parameters,
        "statistics": size.statistics,
        "mib": round(count.mib(size.parameters), 3),
        "gmac": round(size.macs / 1e9, 4),
    }
    return {**line, "published": [_published(one, line) for one in entry.published]}


def _published(one: Published, line: dict[str, Any]) -> dict[str, Any]:
    """What a paper prints, and by how many per cent our count is above it."""
    figures = {"parameters": one.parameters, "mib": one.mib, "gmac": one.gmac}
    # Adding zero turns a rounded -0.0 into 0.0.
    deviation = {word: round(100 * (line[word] / value - 1), 2) + 0.0 for word, value in figures.items() if value}
    return {"source": one.source, **figures, "note": one.note, "deviation_percent": deviation}


def _rule_line(rule: Rule) -> dict[str, Any]:
    sizes = {"parameters": 0, "statistics": 0, "mib": 0.0, "gmac": 0.0}
    return {"name": rule.name, "network": rule.name, "input": list(rule.needs), **sizes, "published": []}


def _print_table(lines: Sequence[dict[str, Any]]) -> None:
    rows, notes = [], {}
    for line in lines:
        ours = [line["name"], _input(line), f"{line['parameters']:,}", f"{line['mib']:.2f}", f"{line['gmac']:.3f}"]
        published = line["published"] or [{"source": "", "deviation_percent": {}}]
        for one in published:
            figures = (_figure(one, "parameters", 1e6), _figure(one, "mib"), _figure(one, "gmac"))
            rows.append([*ours, *figures, one["source"]])
            ours = [""] * len(ours)
            if one.get("note"):
                notes.setdefault(f"{one['source']}: {one['note']}", line["name"])
    console.table(COLUMNS, rows)
    console.say()
    console.say("MiB: parameters at float32. GMAC: 10^9 multiply-accumulates of convolutions, linear layers and matrix")
    console.say("products, for one example. In brackets our deviation from the published figure.")
    for note, first in notes.items():
        console.say(f"- {first}, {note}")


def _input(line: dict[str, Any]) -> str:
    """`160x160x5` for a network's images, `CBF+Tmax` for what a rule needs."""
    between = "+" if isinstance(line["input"][0], str) else "x"
    return between.join(str(part) for part in line["input"])


def _figure(published: dict[str, Any], word: str, unit: float = 1.0) -> str:
    value = published.get(word)
    return f"{value / unit:.2f} ({published['deviation_percent'][word]:+.1f} %)" if value else ""


def _note_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    door.run(main)
