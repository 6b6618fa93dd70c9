"""What a door prints, and to whom: a reader that goes away stops no work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
