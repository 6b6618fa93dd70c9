"""Writes a data set of phantom studies, all of it or nothing."""

from __future__ import annotations

import concurrent.futures
import importlib
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxstroke import files
from jaxstroke.errors import UserError
from jaxstroke.files.atomic import whole_folder
from jaxstroke.files.sealed import sealed
from jaxstroke.phantoms.marker import phantom_facts
from jaxstroke.process.orphans import end_with_parent
from jaxstroke.process.spawned import without_script

VERSION = 2  # of the generator: the same seed gives the same bytes within one version
LAYOUTS = ("isles2018", "isles2022", "isles2024", "two_reader", "atlas", "soop", "folder")
MARKER = "phantom.json"


def generate(
    layout: str,
    *,
    cases: int,
    seed: int,
    folder: Path,
    with_ctp: bool = False,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes `cases` studies under `folder`, laid out as the named public data set.

    Study k depends on the seed and k alone, whatever the number of cases or workers.  The folder appears at the end,
    complete; where it already holds this very phantom nothing is done.

    Args:
      layout: one of `LAYOUTS`.
      with_ctp: isles2018 and isles2024 only: also writes the 4D series, and computes the maps from it.
      workers: processes that work side by side.
      progress: called with 1 after each study.
    """
    marker = describe(layout, cases=cases, seed=seed, with_ctp=with_ctp)
    folder = Path(folder)
    if already_there(folder, marker):
        return
    try:
        with whole_folder(folder) as unfinished:
            for _ in _each_study(layout, unfinished, seed, cases, with_ctp, workers):
                if progress is not None:
                    progress(1)
            importlib.import_module(f"jaxstroke.phantoms.{layout}").finish(unfinished, seed, cases)
            text = json.dumps(sealed({**marker, "files": _checksums(unfinished)}), indent=2)
            (unfinished / MARKER).write_text(text + "\n", encoding="utf-8")
    except UserError:
        if not already_there(folder, marker):  # another process has made the same one meanwhile
            raise


def describe(layout: str, *, cases: int, seed: int, with_ctp: bool) -> dict[str, Any]:
    """What the marker file says: that this is a phantom, how to make it again, and whose the studies are."""
    if layout not in LAYOUTS:
        raise UserError(f"--layout {layout}: it must be one of {', '.join(LAYOUTS)}")
    if cases < 1:
        raise UserError(f"--cases {cases}: at least one study is needed")
    if seed < 0:
        raise UserError(f"--seed {seed}: it must be 0 or more")
    if with_ctp and layout not in ("isles2018", "isles2024"):
        raise UserError(f"--with-ctp: {layout} has no CT perfusion series; only isles2018 and isles2024 have")
    identity = importlib.import_module(f"jaxstroke.phantoms.{layout}").identity
    return {
        "notice": "Phantom: computed, no real patient was used.",
        "version": VERSION,
        "layout": layout,
        "seed": seed,
        "cases": cases,
        "with_ctp": with_ctp,
        "patients": dict(identity(index) for index in range(cases)),
    }


def already_there(folder: Path, marker: dict[str, Any]) -> bool:
    """Whether the folder holds this phantom; anything else in it is an error, for nothing is ever overwritten."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UserError(f"{folder}: this is a file; name a folder that does not exist yet")
    if not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder}: it holds something else than a phantom; name a new folder") from None
    differing = [key for key in marker if not isinstance(found, dict) or found.get(key) != marker[key]]
    if differing:
        raise UserError(f"{folder}: it holds another phantom (other {', '.join(differing)}); name a new folder")
    return True


def damaged(folder: Path) -> Path | None:
    """The first file of a phantom that is missing or not as it was made; None also where no checksums were kept."""
    facts = phantom_facts(folder) or {}
    for name, digest in facts.get("files", {}).items():
        path = folder / name
        if not path.is_file() or files.sha256(path) != digest:
            return path
    return None


def _checksums(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in paths}


def _each_study(layout: str, folder: Path, seed: int, cases: int, with_ctp: bool, workers: int):
    """Yields after each study that is written."""
    tasks = [(layout, folder, seed, index, with_ctp) for index in range(cases)]
    if min(workers, cases) <= 1:
        yield from map(_write_study, tasks)
        return
    # Spawned, not forked: the caller may already run threads.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, cases), mp_context=context, initializer=end_with_parent)
    with pool:
        with without_script():  # a spawning pool starts its processes here
            futures = [pool.submit(_write_study, task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                yield
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_study(task: tuple[str, Path, int, int, bool]) -> None:
    layout, folder, seed, index, with_ctp = task
    module = importlib.import_module(f"jaxstroke.phantoms.{layout}")
    module.write_study(folder, seed, index, with_ctp=with_ctp)
