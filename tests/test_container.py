"""The container's files, held without building it: what is copied exists, nobody is root, the entry point runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "container" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
STEPS = [(line.partition(" ")[0], line.partition(" ")[2]) for line in LINES if line and not line.startswith("#")]
ENTRY = ROOT / "container" / "entry"


def test_every_copied_path_exists_and_the_run_is_an_argument() -> None:
    copied = [shlex.split(words)[:-1] for step, words in STEPS if step == "COPY"]
    sources = [one for sources in copied for one in sources]
    assert "${RUN}" in sources and ("ARG", "RUN") in STEPS
    assert all((ROOT / one).exists() for one in sources if one != "${RUN}"), sources
    kept_out = (ROOT / "container" / "Dockerfile.dockerignore").read_text().split()
    assert not set(kept_out) & set(sources)
    packaged = re.findall(
        r'"(\w+)"', (ROOT / "pyproject.toml").read_text().partition("only-include = [")[2].split("]")[0]
    )
    assert packaged and set(packaged) <= set(sources), "the wheel is built from these"


def test_nobody_is_root_and_nothing_is_fetched_when_it_runs() -> None:
    steps = [step for step, _ in STEPS]
    users = [words for step, words in STEPS if step == "USER"]
    assert users == ["1000"] and steps.index("USER") < steps.index("ENTRYPOINT") and "ADD" not in steps
    assert not any(step == "RUN" for step in steps[steps.index("USER") :]), "what is installed is installed before"
    assert not re.search(r"https?://|curl|wget|pip|apt", ENTRY.read_text())
    assert dict(STEPS)["ENTRYPOINT"] == '["/opt/jaxstroke/entry"]'
    assert ("COPY", "container/entry /opt/jaxstroke/entry") in STEPS and os.access(ENTRY, os.X_OK)


@pytest.mark.parametrize(("device", "extra"), [("cpu", ""), ("cuda", "[cuda]"), ("tpu", None)])
def test_the_build_argument_chooses_the_extra(tmp_path: Path, device: str, extra: str | None) -> None:
    (install,) = [words for step, words in STEPS if step == "RUN" and "pip install" in words]
    (tmp_path / "pip").write_text('#!/bin/sh\nfor word; do last=$word; done\necho "$last"\n')
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DEVICE": device}
    done = subprocess.run(["sh", "-c", install], env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (("", 2) if extra is None else (f"/src{extra}", 0))


def entered(tmp_path: Path, *words: str) -> list[str]:
    """What the entry point calls."""
    (tmp_path / "jaxstroke").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "jaxstroke").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JAXSTROKE_INPUT": str(tmp_path / "in put")}
    return subprocess.run(
        [ENTRY, *words], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize(
    ("slug", "naming"),
    [("dwi-brain-mri", ["--as", "isles2022"]), ("non-contrast-ct", ["--as", "isles2024"]), ("x", [])],
)
def test_the_entry_point_knows_a_challenges_input(tmp_path: Path, slug: str, naming: list[str]) -> None:
    (tmp_path / "in put" / "images" / slug).mkdir(parents=True)
    called = ["predict", "/opt/jaxstroke/run", str(tmp_path / "in put"), "-o", "/output"]
    assert entered(tmp_path) == [*called, *naming]
    assert entered(tmp_path, "--allow-missing") == [*called, "--allow-missing", *naming]
