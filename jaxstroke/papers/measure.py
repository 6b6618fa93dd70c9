"""Training and judging one run of a table, each in a process of its own, and what is kept of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.experiment import catalogue
from jaxstroke.judging import judged
from jaxstroke.models import count, registry
from jaxstroke.pages import report
from jaxstroke.papers import answers
from jaxstroke.papers.declared import Answers
from jaxstroke.papers.plan import Planned
from jaxstroke.process import job, signals
from jaxstroke.runs import place
from jaxstroke.runs.folder import RunFolder

# What tables, strata, tests and pictures need; everything else is in the run folder.
KEPT = ("dice", "precision", "recall", "hd95_mm", "volume_ml", "reference_volume_ml", "reference_lesions",
        "volume_difference_ml", "lesion_f1", "false_positive_regions", "missed_lesion_rate", "undetected", "kappa",
        "auc", "held", "called_unlike")  # fmt: skip
_TOOK = "tables.json"
_DIGITS = 6


def measure(one: Planned) -> tuple[int, dict[str, Any]]:
    """Returns what the process should end with where it was asked to stop, and what was found, or why nothing was."""
    if one.answers is not None:
        return _answered(one, one.answers)
    if not is_judged(one):
        for door, words in (("train", one.words()), ("evaluate", [str(one.run), "--rules", one.rules, *_data(one)])):
            ended = _through(one, door, words)
            if ended is not None:
                return ended
    systems = judged.read(one.run, one.split)
    return 0, _found(one, [{**row, "system": system.name} for system in systems for row in system.rows.values()])


def _answered(one: Planned, how: Answers) -> tuple[int, dict[str, Any]]:
    """The runs are trained and calibrated where they are not, each in a process of its own, and judged in this one."""
    wanted = one.every_seed if how.calibrated else [one]
    for run in wanted:
        ended = None if _is_trained(run) else _through(run, "train", run.words())
        if ended is not None:
            return ended
    runs = [RunFolder(run.run) for run in wanted]
    if how.calibrated and not answers.are_calibrated(runs):
        ended = _through(wanted[0], "calibrate", [*(str(run.path) for run in runs), "--mirror", *_data(one)])
        if ended is not None:
            return ended
    own = runs if how.together else [RunFolder(one.run)]
    return 0, _found(one, answers.judge(own, how, rules=one.rules, folder=one.data))


def _through(one: Planned, door: str, words: list[str]) -> tuple[int, dict[str, Any]] | None:
    """The door in a process of its own; None where it ended well, else what `measure` returns then."""
    started = time.monotonic()
    code = job.watch(door, words)
    _add_seconds(one, time.monotonic() - started)
    if code in (signals.REQUEUE, signals.INTERRUPTED):
        return code, {}
    return (0, {"failed": f"{door} ended with {code}"}) if code else None


def _data(one: Planned) -> list[str]:
    return [] if one.data is None else ["--data", str(one.data)]


def pages(runs: Sequence[Planned]) -> list[Path]:
    """One page of all folds of each experiment whose run folders are all there, trained and judged as planned.

    A page that lies there already, and is of these evaluations, is left as it is; returns those that were made.
    """
    found = []
    for name in dict.fromkeys(one.name for one in runs):
        own = [one for one in runs if one.name == name]
        if len(own) > 1 and all(one.mark.startswith("fold") and one.run.is_dir() and is_judged(one) for one in own):
            out = own[0].run.with_name(own[0].run.name.replace("fold-0", "folds") + ".html")
            title = f"{name}: {len(own)} folds"
            if out.is_file() and out.stat().st_mtime >= max(judged_at(one) for one in own):
                continue
            found.append(report.write(out, [RunFolder(one.run) for one in own], split=own[0].split, title=title))
    return found


def judged_at(one: Planned) -> float:
    """When the run was judged, as files tell the time."""
    return _summary(one).stat().st_mtime


def _summary(one: Planned) -> Path:
    return one.run / "evaluation" / one.split / "summary.json"


def is_judged(one: Planned) -> bool:
    """Whether the run lies there trained as planned, and was judged as it is now."""
    summary = _summary(one)
    if not summary.is_file():
        return False
    patient = one.experiment.training.patience_epochs is not None  # may end before the last epoch
    trained = _is_trained(one)
    return files.read_json(summary).get("checkpoints") == place.state_of(one.run) and (trained or patient)


def _is_trained(one: Planned) -> bool:
    """Whether the run lies there, and all its epochs are done."""
    run = RunFolder(one.run)
    if not run.exists():
        return False
    run.check_same(one.experiment)  # a run of another experiment there is said, not overwritten
    rows = run.journal.rows()
    return bool(rows) and rows[-1]["epoch"] >= one.experiment.training.epochs


def _found(one: Planned, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    trained = one.every_seed[0] if one.answers and one.answers.together else one
    about = RunFolder(trained.run).about()
    took = _seconds(trained)
    return {
        **{name: about.get(name) for name in ("jaxstroke", "commit", "versions", "python", "device", "cpu_count")},
        "phantom": about["phantom"],
        "data_fingerprint": about["data_fingerprint"],
        "held_out": len(about["split"]["test"]),
        "command": ["train", *trained.words()],
        "seconds": round(took, 1) if took else None,
        "size": _size(one.name),
        "study_s": _study_s(one),
        "rows": [
            {**{name: row[name] for name in ("study", "target", "system")},
             **({"quality": row["quality"]} if row.get("quality") else {}),
             **{name: _plain(row[name]) for name in KEPT if name in row}}
            for row in rows
        ],
    }  # fmt: skip


def _size(name: str) -> dict[str, float]:
    """Of the network at full scale, which is what papers print."""
    full = catalogue.load(name)
    data = full.data
    entry = registry.Entry(
        name, full.model.name, data.size, tuple(map(len, data.groups)), full.model.options, data.depth,
        len(data.targets),
    )  # fmt: skip
    size = count.measure(entry)
    return {"mib": round(count.mib(size.parameters), 3), "gmac": round(size.macs / 1e9, 4)}


def _study_s(one: Planned) -> float | None:
    summary = _summary(one)
    found = files.read_json(summary).get("study_s") if summary.is_file() else None
    return None if found is None else _plain(found)


def _plain(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _seconds(one: Planned) -> float:
    path = one.run / _TOOK
    return float(files.read_sealed(path).get("seconds", 0)) if path.is_file() else 0.0


def _add_seconds(one: Planned, more: float) -> None:
    """Turns that were stopped count too."""
    if one.run.is_dir():
        files.write_sealed(one.run / _TOOK, {"seconds": _seconds(one) + more})
