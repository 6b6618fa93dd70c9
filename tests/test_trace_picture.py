"""`scripts/trace_picture`: the last step of a trace, thread by thread, each operation in its group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import scripts
from jaxstroke.errors import UserError

trace: Any = scripts.load("trace_picture")


def _operation(run: str, thread: int, name: str, begin_us: float, length_us: float) -> dict[str, Any]:
    args = {"hlo_op": name, "run_id": run}
    return {"ph": "X", "pid": 1, "tid": thread, "ts": begin_us, "dur": length_us, "name": name, "args": args}


# The host is at its last step before the device has begun the one before it.
EVENTS = [
    {"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": "a"}},
    {"ph": "M", "pid": 1, "tid": 2, "name": "thread_name", "args": {"name": "b"}},
    {"ph": "X", "pid": 1, "tid": 9, "ts": 0.0, "dur": 5.0, "name": "train"},
    {"ph": "X", "pid": 1, "tid": 9, "ts": 6.0, "dur": 5.0, "name": "train"},
    _operation("7", 1, "dot.1", 10, 20),
    _operation("8", 1, "conv_general_dilated.1", 120, 2000),
    _operation("8", 2, "dot_general.4", 1120, 500),
    _operation("8", 2, "transpose_copy_fusion.7", 1620, 100),
    _operation("8", 1, "convert_reduce_fusion", 2120, 300),
    _operation("8", 2, "add_maximum_fusion.2", 2420, 700),
    {"ph": "X", "pid": 1, "tid": 2, "ts": 130.0, "dur": 9.0, "name": "waiting"},
]


def test_the_last_step_is_taken_and_its_operations_grouped() -> None:
    found, step_ms = trace.operations(EVENTS)
    assert step_ms == pytest.approx(3.0)
    assert [(one.thread, one.group, one.begin_ms, one.length_ms) for one in found] == [
        ("a", "convolutions", 0.0, 2.0),
        ("b", "matrix products", 1.0, 0.5),
        ("b", "copies", 1.5, 0.1),
        ("a", "sums", 2.0, 0.3),
        ("b", "passes over a map", 2.3, 0.7),
    ]


def test_it_is_drawn(tmp_path: Path) -> None:
    trace.draw(*trace.operations(EVENTS), "a network", tmp_path / "trace.png")
    with Image.open(tmp_path / "trace.png") as picture:
        assert picture.size[0] > 500


def test_a_run_that_was_not_traced_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was traced there; give `jaxstroke train --profile START:COUNT`"):
        trace.main([str(tmp_path), "-o", str(tmp_path / "x.png")])
    with pytest.raises(UserError, match="no operation is in this trace"):
        trace.operations(EVENTS[:2])
