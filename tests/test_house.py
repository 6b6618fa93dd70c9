"""The rules that make it a house: imports point downward, doors open at once, nothing unsafe."""

import ast
import dataclasses
import functools
import graphlib
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxstroke import __main__ as front
from jaxstroke.experiment import kinds

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxstroke"

# From the top floor down; a room may import from the rooms below it and from itself. Doors stand above all of them.
FLOORS = (
    "library",  # the rooms as a script or a notebook uses them
    "papers",
    "benchmarks",  # of everything below
    "exports",
    "diagnosis",  # of a machine
    "comparison",  # of the networks with their twins
    "torch_twin",
    "compilation",  # for chips that are not there
    "training",
    "inference",
    "pages",  # that a browser opens
    "judging",  # of masks in files and of runs side by side
    "pictures",  # of runs and of studies
    "runs",
    "losses",  # of what the networks put out
    "schedules",
    "models",
    "augment",
    "data",
    "phantoms",
    "metrics",
    "sharding",
    "process",
    "files",
    "experiment",
    "user_cache",
    "console",
    "command",
    "errors",
    "",  # jaxstroke/__init__.py
    "compiler",  # what the package sets up when it is imported
)
TORCH = ("torch_twin", "comparison", "benchmarks", "exports")  # the rooms that import it
NEVER = {("augment", "data")}  # label meaning travels with the case
SLOW_TO_IMPORT = ("jax", "flax", "optax", "orbax", "grain", "nibabel", "matplotlib", "scipy", "torch")
MOST_LINES = 450


@dataclasses.dataclass(frozen=True)
class Module:
    path: Path
    name: str  # "jaxstroke.data.nifti"; a package bears its folder's name

    @property
    def room(self) -> str:
        return (self.name.split(".") + [""])[1]

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))


def modules_of(folder: Path) -> list[Module]:
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found.append(Module(path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)))
    return found


MODULES = modules_of(PACKAGE)
NAMES = {module.name for module in MODULES}
DOORS = sorted(front.doors())
ROOMS = sorted({module.room for module in MODULES} - set(DOORS) - {"__main__"})
LOADED = MODULES + modules_of(ROOT / "experiments")  # everything that runs in a user's process


def imports(module: Module) -> Iterator[str]:
    """Every module that is imported anywhere in a file, inside functions too."""
    package = module.name if module.path.name == "__init__.py" else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield deeper if deeper in NAMES else base


def inner_imports(module: Module) -> list[str]:
    return [name for name in imports(module) if name.partition(".")[0] == "jaxstroke"]


def room_of(name: str) -> str:
    return (name.split(".") + [""])[1]


def by_name(module: Module) -> str:
    return module.name


def test_the_rules_see_the_house() -> None:
    assert {"data", "models", "training", "metrics"} <= set(ROOMS)
    assert {"train", "evaluate", "predict"} <= set(DOORS)
    assert "jaxstroke.errors" in inner_imports(next(m for m in MODULES if m.name == "jaxstroke.process.door"))


def test_every_room_has_a_floor() -> None:
    assert set(ROOMS) <= set(FLOORS), "a new room: give it a floor in FLOORS"


@pytest.mark.parametrize("module", MODULES, ids=by_name)
def test_imports_point_downward(module: Module) -> None:
    if module.room in (*DOORS, "__main__"):
        return
    for name in inner_imports(module):
        room = room_of(name)
        assert name in NAMES, f"{module.name} imports {name}, which is not there"
        assert room not in DOORS, f"{module.name} imports the door {room}"
        assert FLOORS.index(room) >= FLOORS.index(module.room), f"{module.name} imports {name}, a room above it"
        assert (module.room, room) not in NEVER, f"{module.name} imports {name}"


@pytest.mark.parametrize("door", DOORS)
def test_no_door_leads_to_another_door(door: str) -> None:
    module = next(module for module in MODULES if module.name == f"jaxstroke.{door}")
    others = {room_of(name) for name in inner_imports(module)} & set(DOORS)
    assert not others, f"{door} imports {others}: what they share belongs in a room"


def test_no_circles_between_modules() -> None:
    graph = {module.name: set(inner_imports(module)) - {module.name} for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()


def test_no_circles_between_folders() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        folder = graph.setdefault(_folder(module.name), set())
        folder |= {_folder(name) for name in inner_imports(module)} - {_folder(module.name)}
    # A folder and the folder that holds it are one room: `layouts/__init__` may speak of `data.case`, and back.
    flat = {
        folder: {other for other in others if not other.startswith(folder) and not folder.startswith(other)}
        for folder, others in graph.items()
    }
    graphlib.TopologicalSorter(flat).prepare()


def _folder(name: str) -> str:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name if path.is_dir() else name.rpartition(".")[0] if name.count(".") > 1 else name


@pytest.mark.parametrize("module", LOADED, ids=by_name)
def test_torch_is_imported_in_its_rooms_only(module: Module) -> None:
    packages = {name.partition(".")[0] for name in imports(module)}
    assert module.room in TORCH or not packages & {"torch", "safetensors"}


@pytest.mark.parametrize("module", LOADED, ids=by_name)
def test_nothing_runs_text_as_code(module: Module) -> None:
    packages = {name.partition(".")[0] for name in imports(module)}
    assert not packages & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        where = f"{module.path.name}:{node.lineno}"
        called = ast.unparse(node.func)
        assert called not in ("eval", "exec", "compile", "os.system", "os.popen"), where
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            assert not (keyword.arg in ("shell", "allow_pickle") and value is not False), where
            assert not (keyword.arg == "weights_only" and value is not True), where
        if called == "torch.load":
            assert any(keyword.arg == "weights_only" for keyword in node.keywords), where


@pytest.mark.parametrize("path", sorted(ROOT.glob("[!.]*/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_room_with_a_noun(path: Path) -> None:
    assert path.stem not in ("utils", "util", "helpers", "helper", "common", "misc")
    assert not path.stem.endswith(("_utils", "_helpers"))
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, "this may be two rooms"


@pytest.mark.parametrize("module", MODULES, ids=by_name)
def test_what_a_kind_of_example_means_stands_in_one_table(module: Module) -> None:
    """Elsewhere its meaning is asked for (`data.kind.holds_slices`), not its name."""
    words = set(typing.get_args(kinds.Word))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Compare) and ".example" in ast.unparse(node):
            named = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & words
            assert not named, f"{module.path.name}:{node.lineno}: ask experiment.kinds what {named} means"


@pytest.mark.parametrize("door", DOORS)
def test_help_opens_at_once(door: str) -> None:
    """`--help` succeeds and has imported nothing that takes long to import."""
    program = (
        "import sys, jaxstroke.__main__ as front\n"
        "try: front.dispatch(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"slow = [name for name in {SLOW_TO_IMPORT!r} if name in sys.modules]\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", program, door, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{door}" in done.stdout.partition("\n")[0], "the usage line names the door"


def test_bare_command_lists_every_door(capsys: pytest.CaptureFixture[str]) -> None:
    assert front.dispatch([]) == 0
    listed = capsys.readouterr().out
    for door, purpose in front.doors().items():
        assert purpose, f"{door}: its docstring is what the list shows"
        assert f"jaxstroke {door}" in listed and purpose in listed
