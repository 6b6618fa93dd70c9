"""What a door prints, and to whom: a reader that goes away stops no work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

WORK = """
import pathlib, sys
from jaxstroke import console
from jaxstroke.process import door

def main(arguments):
    for number in range(10_000):
        console.say(f"line {number}" + "." * 200)
    pathlib.Path(arguments[0]).write_text("done")
    return 0

door.run(main)
"""


def test_work_goes_on_when_its_reader_goes_away(tmp_path: Path) -> None:
    """`train ... | head -4` ended without a checkpoint, and with code 0."""
    mark = tmp_path / "mark"
    writer = subprocess.Popen(
        [sys.executable, "-c", WORK, str(mark)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stderr is not None
    assert writer.stdout.readline().startswith("line 0")
    writer.stdout.close()
    with writer.stderr:
        told = writer.stderr.read()
    assert writer.wait() == 0 and mark.read_text() == "done"
    assert told == "warning: nobody reads this output any more; the work goes on without it\n"


def test_a_mistake_keeps_its_code_when_nobody_reads_it(tmp_path: Path) -> None:
    program = "from jaxstroke.process import door\nfrom jaxstroke.errors import UserError\n"
    program += "def main(_): raise UserError('wrong')\ndoor.run(main)"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], stderr=writing)
    os.close(writing)
    assert done.returncode == 2


FULL = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"


def test_a_log_on_a_full_disk_stops_no_work(tmp_path: Path) -> None:
    mark, log = tmp_path / "mark", tmp_path / "log"
    with log.open("w") as told:
        words = [sys.executable, "-c", FULL + WORK, str(mark)]
        done = subprocess.run(words, stdout=told, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and mark.read_text() == "done" and log.stat().st_size == 1000
    assert done.stderr == "warning: this output cannot be written (File too large); the work goes on without it\n"


def test_a_mistake_keeps_its_code_when_its_log_is_full(tmp_path: Path) -> None:
    """A checkpoint failed on a full disk that held the log too, and the code became 1."""
    program = FULL + "from jaxstroke.process import door\nfrom jaxstroke.errors import UserError\n"
    program += "def main(_): raise UserError('wrong' * 1000)\ndoor.run(main)"
    with (tmp_path / "log").open("w") as told:
        assert subprocess.run([sys.executable, "-c", program], stderr=told).returncode == 2


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_has_colours_unless_it_wants_none(no_color: bool) -> None:
    program = "from jaxstroke import console\nwith console.bar('work', 2) as advance: advance(1)"
    ours, theirs = os.openpty()
    variables = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    variables |= {"TERM": "xterm-256color", "COLUMNS": "80"} | ({"NO_COLOR": "1"} if no_color else {})
    subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=theirs, env=variables, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "work" in shown
    coloured = re.search(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])[0-9;]*m", shown)
    assert (coloured is None) == no_color, shown


def on_a_terminal(program: str, columns: int) -> list[str]:
    """What a terminal of so many columns is given, line by line, without colours and movements."""
    ours, theirs = os.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=theirs, env=variables, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    return [line.rstrip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))]


def test_thirty_columns_break_no_bar() -> None:
    program = "from jaxstroke import console\n"
    program += "with console.bar('training', 2000) as advance: advance(12, note='loss 0.512  lr 1.0e-03  12 slices/s')"
    lines = on_a_terminal(program, 30)
    assert any(re.search("training +12/2000", line) for line in lines) and max(map(len, lines)) <= 30, lines
    assert any("━" in line and "12/2000" in line for line in on_a_terminal(program, 100))


def test_thirty_columns_break_no_table() -> None:
    rows = [["dme_isles18", "0.640 +- 0.222", "27.8 +- 37.0"], ["tmax_6s", "0.473 +- 0.176", "31.8 +- 25.3"]]
    program = f"from jaxstroke import console\nconsole.table(['system', 'Dice', 'HD95 (mm)'], {rows})"
    lines = on_a_terminal(program, 30)
    assert lines[:3] == ["system dme_isles18", "  Dice       0.640 +- 0.222", "  HD95 (mm)  27.8 +- 37.0"]
    assert on_a_terminal(program, 60)[0] == "system                 Dice     HD95 (mm)"


def test_a_door_is_not_interrupted_by_pythons_collector() -> None:
    """What JAX makes while it traces is kept: looking through ten thousand objects finds no garbage in them."""
    program = "import gc\nfrom jaxstroke.process import door\ncollections = []\n"
    program += "gc.callbacks.append(lambda phase, about: collections.append(phase))\n"
    program += "def main(_):\n    collections.clear()\n    kept = [[] for _ in range(10_000)]\n"
    program += "    assert not collections\ndoor.run(main)"
    subprocess.run([sys.executable, "-c", program], check=True)
