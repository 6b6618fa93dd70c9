"""What an experiment is: plain frozen data, found by name, overridden by dotted words, kept as JSON.

This file names networks, data sets and losses by word and imports none of the rooms that know them, so that
listing the experiments costs no start-up time and a run folder can be read anywhere.

An experiment file (`experiments/NAME.py`) defines

    EXPERIMENT = Experiment(name="dme_isles18", ...)          # required
    SMALL = {"data.size": 64, ...}                            # what `--scale small` changes
    VARIANTS = {"no_temporal": {"model.temporal": False}}     # NAME_no_temporal, the ablations

and its docstring says which paper and table it belongs to, the command, the published figure and the cost.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jaxstroke.errors import UserError

Words = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Data:
    """Which studies, which of their images, and how they are brought to the network."""

    layout: str
    groups: tuple[Words, ...]  # modalities by group, in the order of the network's channels
    targets: Words = ("lesion",)
    example: Literal["slice", "clip", "volume", "series"] = "slice"
    size: int = 224  # height and width of an example, pixels
    spacing_mm: float | None = (
        None  # in-plane pixel after resampling; None: the whole field of view is resized to `size`
    )
    depth: int = 1  # slices in a clip or volume, time points in a series
    normalise: Literal["median_iqr", "zscore", "window"] = "median_iqr"
    batch: int = 8
    lesion_fraction: float = 0.0  # share of examples that must hold lesion; 0: as they come
    folds: int = 5
    fold: int = 0  # the fold held out for testing
    derived: Words = ()  # images that an earlier stage computes, behind those of the groups
    validation_fraction: float = 0.2  # of the other folds' patients, for early stopping and the choice of a checkpoint
    workers: int = 0  # processes that read ahead; 0: threads of this process
    phantom_cases: int = 60
    phantom_seed: int = 2018

    @property
    def channels(self) -> Words:
        """The modalities that are read from files."""
        return tuple(word for group in self.groups for word in group)

    @property
    def inputs(self) -> Words:
        """What the network sees: the modalities, and behind them what an earlier stage computed."""
        return (*self.channels, *self.derived)


@dataclasses.dataclass(frozen=True)
class Model:
    """A network by name, and its options: the fields of its Linen module."""

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Loss:
    """Weighted terms by name, and the constants that some of them take."""

    terms: Mapping[str, float]
    lesion_weight: float = 1.0  # class weight maps: lesion pixels
    background_weight: float = 1.0  # class weight maps: all other pixels
    focal_gamma: float = 2.0
    focal_alpha: float | None = None
    level_weights: tuple[float, ...] = ()  # deep supervision, coarsest first


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """`adam` and `adamw` as published; `adamw_unscaled` takes decay off the weights without the learning rate."""

    name: Literal["adam", "adamw", "adamw_unscaled"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_variable_norm: float | None = None  # each variable's gradient is clipped to this norm


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the learning rate goes: constant, halved every so many epochs, or linear warm-up and then a cosine to 0."""

    name: Literal["constant", "halving", "warmup_cosine"] = "constant"
    half_every_epochs: int = 40
    warmup_epochs: int = 0


@dataclasses.dataclass(frozen=True)
class Augment:
    """Bounds of the random changes to a training example; zero (or no range) turns a change off."""

    probability: float = 0.5  # of each change, drawn for each example and each change on its own
    flip_left_right: bool = False
    flip_front_back: bool = False
    rotate_degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift_fraction: float = 0.0
    elastic_pixels: float = 0.0  # standard deviation of the smooth displacement
    elastic_smooth_pixels: float = 16.0  # its correlation length
    grid_fraction: float = 0.0  # grid distortion: how far a grid line moves, in grid cells
    optical: float = 0.0  # radial distortion coefficient
    brightness: float = 0.0  # added, in units of the normalised image
    contrast: float = 0.0  # relative
    noise: float = 0.0  # standard deviation, in units of the normalised image


@dataclasses.dataclass(frozen=True)
class Training:
    epochs: int = 200
    steps_per_epoch: int | None = None  # None: as many as it takes to see as many examples as there are
    seed: int = 0
    patience_epochs: int | None = None  # stop when the validation loss has not fallen for so long
    validate_every_epochs: int = 1
    keep_last: int = 2  # checkpoints, beside the best
    keep_every_epochs: int | None = None  # and these for ever


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How probabilities become a mask, and by which validation score the best checkpoint is chosen.

    `dice` is the mean over studies; the other two are means over slices, in which a slice without lesion in either mask
    counts 1 or 0.
    """

    threshold: float = 0.5
    largest_component: bool = False
    choose_by: Literal["dice", "slice_dice_empty_1", "slice_dice_empty_0"] = "dice"


@dataclasses.dataclass(frozen=True)
class Cascade:
    """Training in two stages: the first network's synthetic map becomes an image of the second.

    `stage1_networks` is how many first-stage networks there are.  0: no cascade.  1: one network, which also maps the
    studies it was trained on (their annotations leak into the map).  N: each maps the patients it never saw.
    """

    stage1_networks: int = 0


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How a step is spread over devices; it changes speed and memory, and the figures by rounding alone.

    `map`: `jit` compiles one program of the whole batch and lets the compiler cut it, `pmap` runs the step on each
    device with explicit sums over them.  `accumulate`: the batch goes through in so many parts, one after another.
    `shard_optimiser`: each device keeps a share of the optimiser's state instead of all of it.
    """

    map: Literal["jit", "pmap"] = "jit"
    accumulate: int = 1
    shard_optimiser: bool = False


@dataclasses.dataclass(frozen=True)
class Experiment:
    name: str
    title: str
    paper: str
    data: Data
    model: Model
    loss: Loss
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    cascade: Cascade = Cascade()
    parallel: Parallel = Parallel()
    scale: str = "full"


# --- words on the command line -----------------------------------------------------------------------------------


def override(experiment: Experiment, words: Mapping[str, Any]) -> Experiment:
    """Returns the experiment with fields replaced, named by dotted words; values may be text or typed.

    `model.X` for any X but `name` is an option of the network; whether the network has it is checked where the
    network is built.
    """
    for path, value in words.items():
        experiment = _replace(experiment, path.split("."), value, path)
    return experiment


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """Turns `["data.batch=4"]` into `{"data.batch": "4"}`."""
    words = {}
    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        if not sign or not path:
            raise UserError(f"--set {assignment}: write it as FIELD=VALUE, for example --set data.batch=4")
        words[path.strip()] = value.strip()
    return words


def _replace(node: Any, path: list[str], value: Any, whole: str) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(node, Model) and name != "name":
        if name == "options" and rest:
            name, rest = rest[0], rest[1:]
        value = _loose(value) if isinstance(value, str) else value
        return dataclasses.replace(node, options={**node.options, name: value})
    if isinstance(node, Mapping):
        hint = type(next(iter(node.values()))) if node else float
        return {**node, ".".join(path): convert(value, hint, whole)}
    hints = typing.get_type_hints(type(node))
    if name not in hints:
        raise UserError(f"{whole}: there is no such field.{nearest(name, hints, prefix=whole[: -len('.'.join(path))])}")
    current = getattr(node, name)
    if rest:
        if not dataclasses.is_dataclass(current) and not isinstance(current, Mapping):
            raise UserError(f"{whole}: {name} is a single value and has no field {'.'.join(rest)}")
        return dataclasses.replace(node, **{name: _replace(current, rest, value, whole)})
    if dataclasses.is_dataclass(current):
        fields = ", ".join(f"{whole}.{field.name}" for field in dataclasses.fields(current))
        raise UserError(f"{whole}: this is a group of fields; name one of {fields}")
    return dataclasses.replace(node, **{name: convert(value, hints[name], whole)})


def nearest(word: str, known: typing.Iterable[str], prefix: str = "") -> str:
    """Returns a sentence that names the closest known words, or all of them when none is close."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5) or known
    return " Did you mean " + " or ".join(prefix + one for one in close[:8]) + "?"


def convert(value: Any, hint: Any, name: str) -> Any:
    """Brings a value, or its text, to the declared type, or says plainly that it cannot be done."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or value in ("none", "None", "null"):
            return None
        (hint,) = [one for one in arguments if one is not type(None)]
        return convert(value, hint, name)
    if origin is Literal:
        if value not in arguments:
            raise UserError(f"{name}={value}: it must be one of {', '.join(map(str, arguments))}")
        return value
    try:
        if hint is bool:
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if hint is int:
            if isinstance(value, float) and value != int(value):
                raise ValueError
            return int(value)
        if hint is float:
            return float(value)
        if hint is str:
            return str(value)
        if origin is tuple:
            parts = _loose(value) if isinstance(value, str) else value
            parts = [parts] if isinstance(parts, (str, int, float)) else parts
            inner = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else arguments
            if len(inner) != len(parts):
                raise ValueError
            return tuple(convert(part, one, name) for part, one in zip(parts, inner, strict=True))
        if origin is not None and issubclass(origin, Mapping):
            parts = json.loads(value) if isinstance(value, str) else value
            return {str(key): convert(one, arguments[1], name) for key, one in parts.items()}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{name}={value}: {_kind(hint)} is expected here") from None
    return _tuples(value)


def _kind(hint: Any) -> str:
    known = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return known.get(hint, "a list such as 1,2" if typing.get_origin(hint) is tuple else str(hint))


def _loose(text: str) -> Any:
    """Reads the text of a value whose type is not declared here: JSON where it is JSON, else words."""
    try:
        return _tuples(json.loads(text))
    except ValueError:
        pass
    if text in ("True", "False"):
        return text == "True"
    if "," in text:
        return tuple(_loose(part.strip()) for part in text.split(",") if part.strip())
    return text


def _tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(part) for part in value)
    if isinstance(value, Mapping):
        return {key: _tuples(part) for key, part in value.items()}
    return value


# --- there and back to JSON --------------------------------------------------------------------------------------


def to_json(experiment: Experiment) -> str:
    return json.dumps(dataclasses.asdict(experiment), indent=2, sort_keys=True)


def from_json(text: str) -> Experiment:
    """The inverse of `to_json`; unknown fields are an error, missing ones take their defaults."""
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise UserError(f"the experiment is not readable JSON: {error}") from None
    return _from_tree(Experiment, tree, "")


def _from_tree(kind: type, tree: Any, where: str) -> Any:
    if not isinstance(tree, Mapping):
        raise UserError(f"experiment{where}: a group of fields is expected, not {tree!r}")
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in tree.items():
        if name not in hints:
            raise UserError(f"experiment{where}: there is no field {name}.{nearest(name, hints)}")
        inner = hints[name]
        if dataclasses.is_dataclass(inner):
            values[name] = _from_tree(typing.cast(type, inner), value, f"{where}.{name}")
        else:
            values[name] = convert(value, inner, f"experiment{where}.{name}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UserError(f"experiment{where}: {error}") from None


def differences(one: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    """Returns the fields in which two experiments differ, by the words that set them, with both values."""
    first, second = _flat(dataclasses.asdict(one)), _flat(dataclasses.asdict(other))
    return {
        name.replace("model.options.", "model."): (first.get(name), second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


# --- experiments by name -----------------------------------------------------------------------------------------


def folder() -> Path:
    """Where the experiment files lie: beside the package in a checkout, inside it when installed."""
    inside = Path(__file__).parent / "experiments"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "experiments"


def names() -> list[str]:
    """Every experiment's name, variants after the experiment that they vary."""
    found = []
    for path in sorted(folder().glob("[a-z]*.py")):
        file = _load_file(path)
        found += [file.EXPERIMENT.name, *(f"{file.EXPERIMENT.name}_{variant}" for variant in _variants(file))]
    return found


def load(name: str, *, scale: str = "full") -> Experiment:
    """Returns the experiment of that name, at full or small scale; an unknown name names the nearest."""
    if scale not in ("full", "small"):
        raise UserError(f"--scale {scale}: it must be full or small")
    for path in sorted(folder().glob("[a-z]*.py"), key=lambda path: -len(path.stem)):
        if not name.startswith(path.stem):
            continue
        file = _load_file(path)
        variant = name[len(path.stem) + 1 :]
        if variant and variant not in _variants(file):
            continue
        experiment = file.EXPERIMENT
        if variant:
            experiment = dataclasses.replace(override(experiment, _variants(file)[variant]), name=name)
        if scale == "small":
            experiment = dataclasses.replace(override(experiment, getattr(file, "SMALL", {})), scale="small")
        return experiment
    raise UserError(f"--exp {name}: there is no such experiment.{nearest(name, names())} --list shows them all.")


def small(name: str) -> Mapping[str, Any]:
    """The words that bring an experiment to small scale, for the experiments that build on it."""
    return _load_file(folder() / f"{name}.py").SMALL


def _variants(file: Any) -> Mapping[str, Mapping[str, Any]]:
    return getattr(file, "VARIANTS", {})


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"jaxstroke_experiment_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
