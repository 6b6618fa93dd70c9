"""The doctor: what it finds on this machine, and that it sees each fault that is planted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_studies import isles2022_root, lesion

from jaxstroke import compiler, doctor
from jaxstroke.diagnosis import gradient, machine, versions


def test_it_tells_everything_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    out = capsys.readouterr().out.splitlines()
    topics = ("versions", "extras", "XLA", "threads", "memory", "cache", "data", "devices", "allocator", "self-test")
    for topic in topics:
        assert sum(line[8:].startswith(f"{topic}:") for line in out) == 1, topic
    assert all(len(line) <= 80 or line.startswith("next:") for line in out)


def test_as_json_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = {finding["topic"]: finding for finding in told["findings"]}
    assert told["problems"] == 0 and found["devices"]["facts"]["platform"] == "cpu"
    assert all(finding["remedy"] for finding in told["findings"] if finding["state"] != "ok")


def test_a_wrong_gradient_is_a_problem() -> None:
    expected = np.ones((3, 3, 4, 8))
    assert gradient.judged(expected, expected, 0.0).state == "ok"
    assert gradient.judged(expected * 1.002, expected, 0.0).state == "problem"  # what jaxlib 0.10.2 was off by
    assert gradient.judged(np.full_like(expected, np.nan), expected, 0.0).state == "problem"


def test_numpys_gradient_is_that_of_the_definition() -> None:
    """An image of one pixel: the gradient of each weight is what the pixel, moved by it, is multiplied by."""
    images, wanted = np.zeros((1, 5, 5, 1), np.float32), np.zeros((1, 5, 5, 1), np.float32)
    images[0, 2, 2, 0] = 3.0
    wanted[0, 1, 3, 0] = 2.0
    expected = np.zeros((3, 3))
    expected[2, 0] = 6.0  # row 1 sees row 2 through the lower weight, column 3 sees column 2 through the left one
    np.testing.assert_array_equal(gradient.by_numpy(images, wanted)[..., 0, 0], expected)


def test_settings_that_the_user_overrode_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.settings().state == "ok"
    (name,) = compiler.SETTINGS
    monkeypatch.setenv("XLA_FLAGS", f"{name}=LIBRARY_FUSION_TYPE_DOT")
    assert machine.settings().state == "problem" and name in machine.settings().remedy


def test_other_versions_than_tested_are_named() -> None:
    tested = {"jax": "0.10.2", "orbax-checkpoint": "0.12.8"}
    same = versions.versions({"jax": "0.10.2", "orbax-checkpoint": "0.12.8"}, tested)
    other = versions.versions({"jax": "0.11.0", "orbax-checkpoint": "0.12.8"}, tested)
    assert same.state == "ok" and other.state == "note" and "jax 0.11.0 (tested: 0.10.2)" in other.told
    assert versions.versions({"jax": None}, tested).state == "problem"
    for python in ((3, 11), (3, 13)):
        assert {"jax", "orbax-checkpoint"} <= versions.tested_versions(python).keys()


def test_where_data_were_looked_for(tmp_path: Path) -> None:
    assert "neither --data nor JAXSTROKE_DATA" in machine.studies(None, named_by="").told
    missing = machine.studies(str(tmp_path / "none"), named_by="JAXSTROKE_DATA")
    assert missing.state == "problem" and "JAXSTROKE_DATA" in missing.told
    isles2022_root(tmp_path / "data", [lesion((4, 24, 24), {1: (8, 8)})] * 2)
    found = machine.studies(str(tmp_path / "data"), named_by="--data")
    assert found.state == "ok" and "2 studies of ISLES 2022" in found.told


def test_the_cache_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5000)
    assert machine.cache(tmp_path).facts["bytes"] == 5000
    assert machine.cache(tmp_path / "not" / "yet").facts["bytes"] == 0


def test_who_hands_out_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp 00000000 fe:00 12 /usr/lib/x86_64-linux-gnu/libc.so.6\n")
    told = machine.allocator(maps)
    assert told.state == "note" and "LD_PRELOAD=libjemalloc.so.2" in told.remedy
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert machine.allocator(maps).state == "ok"
    monkeypatch.undo()
    maps.write_text(maps.read_text() + "7f02-7f03 r-xp 00000000 fe:00 13 /usr/lib/libjemalloc.so.2\n")
    assert machine.allocator(maps).facts == {"allocator": "jemalloc"}
    assert machine.allocator(tmp_path / "none").state == "ok", "a system that shows no maps"
