"""`python -m jaxstroke.report RUN`: one HTML page of a run with its curves, scores, and a viewer of every study."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import door


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog=command.text("report"),
        description="Make one self-contained HTML page of a run, or of several (the folds of an experiment).",
    )
    words.add_argument("runs", metavar="RUN", nargs="+", help="the run folder that train wrote, evaluated or not")
    words.add_argument("-o", "--out", metavar="FILE", help="where to; default RUN/report.html")
    words.add_argument("--split", metavar="NAME", default="test", help="the evaluation to show; default: test")
    words.add_argument("--title", default="", help="the heading; default: the experiment's name and title")
    return words


def main(arguments: list[str]) -> int:
    words = parser().parse_args(arguments)
    console.say(f"making a page of {', '.join(words.runs)}")
    from jaxstroke.pages import report
    from jaxstroke.runs.folder import RunFolder

    runs = [RunFolder(Path(run)) for run in words.runs]
    for run in runs:
        run.experiment()  # says which folder is none of a run's
    if len(runs) > 1 and not words.out:
        raise UserError("-o is missing: say where the page of several runs goes, for example -o report.html")
    page = report.write(
        Path(words.out) if words.out else runs[0].path / "report.html", runs, split=words.split, title=words.title
    )
    console.say(f"{page}: {page.stat().st_size / 1e6:.1f} MB, opens in any browser without a network")
    if not (runs[0].path / "evaluation" / words.split).is_dir():
        console.next_command("evaluate", str(runs[0].path))
    else:
        console.next_command("predict", str(runs[0].path), "STUDY", "-o", "predictions")
    return 0


if __name__ == "__main__":
    door.run(main)
