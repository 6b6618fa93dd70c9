"""`jaxstroke DOOR ...` runs `python -m jaxstroke.DOOR ...`; called bare it lists the doors."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import jaxstroke
from jaxstroke import console
from jaxstroke.errors import UserError, nearest
from jaxstroke.process import door


def doors() -> dict[str, str]:
    """Every door's name and the first line of its docstring: the modules beside this one that define `main`."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            line = (ast.get_docstring(tree) or "").partition("\n")[0]
            found[path.stem] = line.rpartition("`: ")[2]  # without the command that some begin with
    return found


def dispatch(arguments: list[str]) -> int | None:
    """Hands the words after the door's name to the door."""
    known = doors()
    if not arguments or arguments[0] in ("-h", "--help"):
        console.say(f"{jaxstroke.__doc__}\n")
        width = max(map(len, known))
        for name, purpose in known.items():
            console.say(f"  jaxstroke {name:{width}}  {purpose}")
        console.say("\n`jaxstroke DOOR --help` says what a door takes.")
        return 0
    if arguments[0] == "--version":
        console.say(f"jaxstroke {jaxstroke.__version__}")
        return 0
    name, *args = arguments
    if name not in known:
        raise UserError(f"{name}: there is no such door.{nearest(name, known)} `jaxstroke` alone lists them all.")
    return importlib.import_module(f"jaxstroke.{name}").main(args)


def main() -> None:
    door.run(dispatch)


if __name__ == "__main__":
    main()
