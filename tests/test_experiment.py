"""Experiments: found by name, overridden by dotted words, kept as JSON without loss."""

import ast
import dataclasses
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstroke.errors import UserError
from jaxstroke.experiment import Data, Experiment, Loss, Model, as_json, catalogue, overrides, values
from jaxstroke.experiment.fields import Group, declared

NAMES = catalogue.names()
FILES = sorted(catalogue.folder().glob("[a-z]*.py"))

PLAIN = Experiment(
    name="plain",
    title="",
    paper="",
    data=Data(layout="isles2018", groups=(("CBF", "CBV"), ("CT",))),
    model=Model("unet", {"width": 32}),
    loss=Loss(terms={"soft_dice": 1.0}),
)

finite = st.floats(allow_nan=False, allow_infinity=False)
amounts = st.floats(min_value=0, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
zooms = st.floats(min_value=0.1, max_value=10)


def from_json(text: str) -> Experiment:
    return as_json.from_tree(Experiment, json.loads(text), "")


def from_tree(tree: object) -> Experiment:
    return as_json.from_tree(Experiment, tree, "")


# --- every experiment of the house --------------------------------------------------------------------------------


def test_names_are_unique_and_found() -> None:
    assert NAMES and len(NAMES) == len(set(NAMES))
    assert {path.stem for path in FILES} <= set(NAMES), "an experiment is named as its file"


@pytest.mark.parametrize("scale", ["full", "small"])
@pytest.mark.parametrize("name", NAMES)
def test_json_gives_back_the_same_experiment(name: str, scale: str) -> None:
    loaded = catalogue.load(name, scale=scale)
    assert (loaded.name, loaded.scale) == (name, scale)
    again = from_json(as_json.to_json(loaded))
    assert again == loaded
    assert as_json.differences(again, loaded) == {}


@pytest.mark.parametrize("name", NAMES)
def test_json_holds_no_constant_that_other_readers_refuse(name: str) -> None:
    json.dumps(dataclasses.asdict(catalogue.load(name)), allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
def test_small_scale_asks_for_less(name: str) -> None:
    full, small = catalogue.load(name), catalogue.load(name, scale="small")
    assert small.data.size <= full.data.size and small.training.epochs <= full.training.epochs
    assert small.data.layout == full.data.layout and small.data.groups == full.data.groups
    assert small.model.name == full.model.name


def test_what_differs_at_full_scale_differs_at_small_scale() -> None:
    """A variant that is its base at small scale would be trained, and its figures printed, as what it is not."""
    seen: dict[str, tuple[str, str]] = {}
    for name in NAMES:
        full, small = (_content(catalogue.load(name, scale=scale)) for scale in ("full", "small"))
        first, its_full = seen.setdefault(small, (name, full))
        assert its_full == full, f"{name} and {first} differ at full scale alone"


def _content(experiment: Experiment) -> str:
    return as_json.to_json(dataclasses.replace(experiment, name="any", title="", scale="full"))


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_changes_the_same_fields_at_both_scales(name: str) -> None:
    base = max((path.stem for path in FILES if name.startswith(path.stem)), key=len)
    full, small = (
        set(as_json.differences(catalogue.load(name, scale=scale), catalogue.load(base, scale=scale)))
        for scale in ("full", "small")
    )
    assert small == full


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_docstring_says_paper_command_and_published_figure(path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert re.search(r"^Paper: ", told, re.MULTILINE)
    assert re.search(r"^Published\b[^:]*: ", told, re.MULTILINE)
    assert f"python -m jaxstroke.train --exp {path.stem}" in told


# --- words on the command line ------------------------------------------------------------------------------------


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean .*dme_isles18"):
        catalogue.load("dme_isle18")
    with pytest.raises(UserError, match="--scale tiny: it must be full or small"):
        catalogue.load("dme_isles18", scale="tiny")


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("data.batch", "4", 4),
        ("data.batch", 4.0, 4),
        ("data.spacing_mm", "none", None),
        ("data.spacing_mm", "1.5", 1.5),
        ("data.targets", "ADC/R1,DWI/R1", ("ADC/R1", "DWI/R1")),
        ("data.targets", "lesion", ("lesion",)),
        ("data.groups", '[["DWI"],["ADC","FLAIR"]]', (("DWI",), ("ADC", "FLAIR"))),
        ("data.example", "clip", "clip"),
        ("augment.scale", "0.8,1.2", (0.8, 1.2)),
        ("augment.flip_left_right", "true", True),
        ("training.steps_per_epoch", "None", None),
        ("evaluation.largest_component", "0", False),
        ("loss.terms.soft_dice", "0.5", 0.5),
        ("loss.level_weights", "0.25,0.75", (0.25, 0.75)),
        ("data.normalise_of.CT", "window", "window"),
        ("optimiser.learning_rate", "1e-3", 0.001),
    ],
)
def test_words_take_the_declared_type(path: str, text: object, value: object) -> None:
    node: object = overrides.override(PLAIN, {path: text})
    for name in path.split("."):
        node = node[name] if isinstance(node, dict) else getattr(node, name)
    assert node == value and type(node) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("0.5", 0.5), ("true", True), ("False", False), ("sum", "sum"), ("1,2,6", (1, 2, 6)), ("null", None)],
)
def test_options_of_the_network_are_read_as_what_they_look_like(text: str, value: object) -> None:
    options = overrides.override(PLAIN, {"model.mode": text}).model.options
    assert options == {"width": 32, "mode": value} and type(options["mode"]) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("data.bach", "4", r"data\.bach: there is no such field\. Did you mean data\.batch"),
        ("dat.batch", "4", r"dat\.batch: there is no such field\. Did you mean data"),
        ("data.batch", "four", r"data\.batch=four: a whole number is expected"),
        ("data.batch", "4.5", r"data\.batch=4\.5: a whole number is expected"),
        ("data.example", "slize", r"data\.example=slize: it must be one of slice, clip, volume, series"),
        ("augment.flip_left_right", "maybe", r"augment\.flip_left_right=maybe: true or false is expected"),
        ("augment.scale", "0.8,1,1.2", r"augment\.scale=0\.8,1,1\.2: a list such as 1,2 is expected"),
        ("loss.terms.soft_dice", "much", r"loss\.terms\.soft_dice=much: a number is expected"),
        ("data", "4", r"data: this is a group of fields; name one of data\.layout, "),
        ("data.batch.size", "4", r"data\.batch\.size: batch is a single value"),
        ("loss.terms", "3", r"loss\.terms=3: a group such as .* is expected"),
        ("loss.terms", "{}", r"loss\.terms: at least one term with a weight above 0 is needed"),
        ("loss.focal_gamma", "nan", r"loss\.focal_gamma=nan: a number is expected"),
        ("data.normalise_of.CT", "windows", r"data\.normalise_of\.CT=windows: it must be one of median_iqr, zscore"),
        ("data.size", "0", r"data\.size=0: a number from 1 to 4096 is expected"),
        ("data.groups", "[]", r"data\.groups: name at least one image in each group"),
        ("data.groups", '[["CBF"],["CBF"]]', r"data\.groups: CBF stands there twice"),
        ("data.targets", "[]", r"data\.targets is empty"),
        ("data.spacing_mm", "0", r"data\.spacing_mm=0\.0: a number from 0\.01 to 100 is expected"),
        ("data.workers", "2", r"data\.workers: this field is no more; leave it out"),
        ("data.depth", "-1", r"data\.depth=-1: a number from 1 to"),
        ("data.fold", "5", r"data\.fold=5 \(--fold\): folds are counted from 0 to 4"),
        ("training.seed", "-1", r"training\.seed=-1: a number from 0 to 4294967295"),
        ("training.seed", "1e20", r"training\.seed=1e20: a whole number is expected"),
        ("training.steps_per_epoch", "-1", r"training\.steps_per_epoch=-1: a number from 1 to"),
        ("training.patience_epochs", "-1", r"training\.patience_epochs=-1"),
        ("training.validate_every_epochs", "0", r"training\.validate_every_epochs=0"),
        ("training.keep_last", "-1", r"training\.keep_last=-1"),
        ("cascade.stage1_networks", "-1", r"cascade\.stage1_networks=-1: a number from 0 to 100"),
        ("evaluation.threshold", "nan", r"evaluation\.threshold=nan"),
        ("evaluation.threshold", "5", r"evaluation\.threshold=5\.0: a number from 0 to 1 is expected"),
        ("augment.scale", "1.2,0.8", r"augment\.scale=1\.2,0\.8: give the smaller one first"),
        ("scale", "tiny", r"experiment\.scale=tiny: it must be one of full, small"),
        ("name", "../../evil", r"experiment\.name=\.\./\.\./evil: letters, digits, _ \. and - are expected"),
        ("optimiser.learning_rate", "0", r"optimiser\.learning_rate=0\.0: more than 0 is needed"),
    ],
)
def test_a_mistake_is_answered_in_one_line_that_helps(path: str, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        overrides.override(PLAIN, {path: text})
    assert "\n" not in str(caught.value)


def test_assignments_are_cut_at_the_first_sign() -> None:
    changes = overrides.parse_assignments(["data.batch = 4", "model.word=a=b"])
    assert changes == {"data.batch": "4", "model.word": "a=b"}
    for wrong in ("data.batch", "=4"):
        with pytest.raises(UserError, match="write it as FIELD=VALUE"):
            overrides.parse_assignments([wrong])


def test_overriding_leaves_the_original_alone() -> None:
    changed = overrides.override(PLAIN, {"data.batch": "4", "model.width": "8", "loss.terms.soft_dice": "2"})
    assert (PLAIN.data.batch, PLAIN.model.options, PLAIN.loss.terms) == (8, {"width": 32}, {"soft_dice": 1.0})
    assert as_json.differences(PLAIN, changed) == {
        "data.batch": (8, 4),
        "loss.terms.soft_dice": (1.0, 2.0),
        "model.width": (32, 8),
    }


# --- JSON ---------------------------------------------------------------------------------------------------------


@given(
    learning_rate=positive,
    scale=st.tuples(zooms, zooms).map(sorted),
    weights=st.lists(amounts, max_size=6),
    epochs=st.integers(1, 2**31 - 1),
    terms=st.dictionaries(st.text(), positive, min_size=1),
    option=st.recursive(
        st.none() | st.booleans() | st.integers() | finite | st.text(), lambda inner: st.lists(inner, max_size=3)
    ),
)
def test_json_keeps_every_number(learning_rate, scale, weights, epochs, terms, option) -> None:
    made = dataclasses.replace(
        PLAIN,
        model=Model("unet", {"option": values.convert(option, object, "option")}),
        loss=dataclasses.replace(PLAIN.loss, terms=terms, level_weights=tuple(weights)),
        optimiser=dataclasses.replace(PLAIN.optimiser, learning_rate=learning_rate),
        augment=dataclasses.replace(PLAIN.augment, scale=scale),
        training=dataclasses.replace(PLAIN.training, epochs=epochs),
    )
    assert from_json(as_json.to_json(made)) == made


@given(positive)
def test_a_number_survives_the_command_line(number: float) -> None:
    assert overrides.override(PLAIN, {"optimiser.learning_rate": repr(number)}).optimiser.learning_rate == number
    assert math.isclose(overrides.override(PLAIN, {"model.x": repr(number)}).model.options["x"], number, rel_tol=0)


def test_every_way_in_passes_the_ranges() -> None:
    """The library, a command, and a run folder's file: a value out of range is the same mistake."""
    told = r"data\.batch=0: a number from 1 to 65536 is expected"
    with pytest.raises(UserError, match=told):
        Data(layout="isles2018", groups=(("CT",),), batch=0)
    with pytest.raises(UserError, match=told):
        dataclasses.replace(PLAIN.data, batch=0)
    with pytest.raises(UserError, match=told):
        overrides.override(PLAIN, {"data.batch": "0"})
    with pytest.raises(UserError, match=told):
        from_json(as_json.to_json(PLAIN).replace('"batch": 8', '"batch": 0'))
    made = Data(layout="isles2018", groups=[["CT"]], targets=["lesion"])  # type: ignore[arg-type]
    assert (made.groups, made.targets) == ((("CT",),), ("lesion",))  # and lists become what is declared


def test_overrides_are_taken_together() -> None:
    for order in (("data.fold", "data.folds"), ("data.folds", "data.fold")):
        made = overrides.override(PLAIN, {path: {"data.fold": 7, "data.folds": 10}[path] for path in order})
        assert (made.data.fold, made.data.folds) == (7, 10)


GROUPS = {name: hint for name, hint in declared(Experiment).items() if isinstance(hint, type)}
FIELDS = [name for name in declared(Experiment) if name not in GROUPS]
FIELDS += [f"{group}.{name}" for group, hint in GROUPS.items() if issubclass(hint, Group) for name in declared(hint)]
STRANGE = st.sampled_from(
    ["-1", "0", "1e9", "nan", "inf", "3.5", "none", "", "[]", "{}", "[[]]", "1e20", "true", "x", "../x", "9" * 400]
)


@given(path=st.sampled_from(FIELDS), value=STRANGE | st.text(max_size=8) | st.integers().map(str) | finite.map(repr))
def test_any_text_for_any_field_makes_an_experiment_or_one_line(path: str, value: str) -> None:
    try:
        made = overrides.override(PLAIN, {path: value})
    except UserError as mistake:
        assert path in str(mistake) and "\n" not in str(mistake) and len(str(mistake)) < 400
    else:
        assert from_json(as_json.to_json(made)) == made


def test_missing_fields_take_their_defaults_and_unknown_ones_are_refused() -> None:
    tree = json.loads(as_json.to_json(PLAIN))
    del tree["training"], tree["data"]["folds"]
    assert from_tree(tree) == PLAIN
    with pytest.raises(UserError, match=r"experiment\.data: there is no field bach\. Did you mean batch"):
        from_tree(tree | {"data": tree["data"] | {"bach": 4}})
    with pytest.raises(UserError, match=r"experiment\.data: a group of fields is expected"):
        from_tree(tree | {"data": 4})
    del tree["model"]
    with pytest.raises(UserError, match="experiment: .*model"):
        from_tree(tree)


def test_the_words_of_before_are_read() -> None:
    tree = json.loads(as_json.to_json(PLAIN))
    tree["parallel"] = {"accumulate": 2, "map": "jit", "shard_optimiser": False}
    tree["data"]["workers"] = 2  # of the former processes that read, which changed nothing of a run
    assert from_tree(tree) == overrides.override(PLAIN, {"parallel.accumulate": "2"})
    assert overrides.override(PLAIN, {"parallel.accumulate": "2"}).parallel.microbatches == 2
