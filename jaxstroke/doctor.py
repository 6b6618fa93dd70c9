"""`python -m jaxstroke.doctor`: what may go wrong on this machine, before it does, and what to do about it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap

from jaxstroke import command, console
from jaxstroke.process import door

_WORDS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog=command.text("doctor"),
        description="Look at devices, versions, memory, cache and data; the exit status is 1 where there is a problem.",
    )
    words.add_argument("--data", metavar="PATH", help="the data set to look for; else JAXSTROKE_DATA")
    words.add_argument("--json", action="store_true", help="print what was found as JSON and nothing else")
    return words


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    from jaxstroke.diagnosis import findings

    found = []
    for finding in findings(args.data):
        found.append(finding)
        if not args.json:
            _say(f"{_WORDS[finding.state]} {finding.topic}: {finding.told}", indent=8)
            if finding.remedy:
                _say(f"        -> {finding.remedy}", indent=11)
    problems = sum(finding.state == "problem" for finding in found)
    if args.json:
        tree = {"problems": problems, "findings": [dataclasses.asdict(finding) for finding in found]}
        console.say(json.dumps(tree, indent=2))
        return 1 if problems else 0
    console.say(f"{problems} problems" if problems else "no problem")
    console.next_command("train", "--list")
    return 1 if problems else 0


def _say(text: str, *, indent: int) -> None:
    """Legible at 80 columns."""
    for line in textwrap.wrap(text, 80, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False):
        console.say(line)


if __name__ == "__main__":
    door.run(main)
