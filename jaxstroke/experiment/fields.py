"""What an experiment is: plain frozen data.

It names networks, data sets and losses by word and imports none of the rooms that know them, so that listing the
experiments costs no start-up time and a run folder can be read anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from jaxstroke.errors import UserError
from jaxstroke.experiment import kinds
from jaxstroke.experiment.values import Pattern, Range, convert

_MOST = 2**31 - 1  # what a 32-bit whole number holds

Word = Annotated[str, Pattern(r"\S+", "a word without blanks is expected")]
Words = tuple[Word, ...]
Count = Annotated[int, Range(1, _MOST)]
CountOrNone = Annotated[int, Range(0, _MOST)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Amount = Annotated[float, Range(0.0)]
Positive = Annotated[float, Range(0.0, above=True)]
Fraction = Annotated[float, Range(0.0, 1.0)]


Normalisation = Literal["median_iqr", "zscore", "window"]


class Group:
    """What every group of fields does when it is made, whoever makes it: each value is brought to its declared type
    and range, and `check` looks at values together.  A group that exists is sound."""

    def __post_init__(self) -> None:
        where = f"{type(self).__name__.lower()}."
        for name, hint in declared(type(self)).items():
            value = getattr(self, name)
            if isinstance(hint, type) and issubclass(hint, Group):
                if not isinstance(value, hint):
                    raise UserError(f"{where}{name}: a group of fields is expected here")
            else:
                object.__setattr__(self, name, convert(value, hint, where + name))
        self.check()

    def check(self) -> None:
        """What one value must be because of another."""


@functools.cache
def declared(group: type) -> dict[str, Any]:
    """The declared type of each field, with its range."""
    return typing.get_type_hints(group, include_extras=True)


@dataclasses.dataclass(frozen=True)
class Preparation(Group):
    """What is done to the images before they are normalised, as some papers have it; needs SimpleITK (`prep`).

    `register`: images on a grid of their own, each with the image to whose grid it is brought, rigidly.  `strip_skull`:
    the image that shows where the brain is, outside which all are set to air or 0; one that was stripped before leaves
    them as they are.  `correct_bias`: images that N4 corrects.
    """

    register: Mapping[Word, Word] = dataclasses.field(default_factory=dict)
    strip_skull: Word | None = None
    correct_bias: Words = ()

    @property
    def any(self) -> bool:
        return self != Preparation()


@dataclasses.dataclass(frozen=True)
class Data(Group):
    """Which studies, which of their images, and how they are brought to the network."""

    layout: Word
    groups: tuple[Words, ...]  # modalities by group, in the order of the network's channels
    targets: Words = ("lesion",)
    example: kinds.Word = "slice"
    size: Annotated[int, Range(1, 4096)] = 224  # height and width of an example, pixels
    # In-plane pixel after resampling; None: the whole field of view is resized to `size`.
    spacing_mm: Annotated[float, Range(0.01, 100.0)] | None = None
    depth: Annotated[int, Range(1, 4096)] = 1  # slices in a clip or volume, time points in a series
    normalise: Normalisation = "median_iqr"
    # Of images that are not normalised as the others are; CT with its skull needs `window`.
    normalise_of: Mapping[Word, Normalisation] = dataclasses.field(default_factory=dict)
    batch: Annotated[int, Range(1, 65536)] = 8
    lesion_fraction: Fraction = 0.0  # share of examples that must hold lesion; 0: as they come
    folds: Annotated[int, Range(2, _MOST)] = 5
    fold: CountOrNone = 0  # the fold held out for testing
    split_by: Literal["patient", "centre"] = "patient"  # what a fold holds whole
    preparation: Preparation = Preparation()
    derived: Words = ()  # images that an earlier stage computes, behind those of the groups
    # Of the other folds' patients, for early stopping and the choice of a checkpoint.
    validation_fraction: Annotated[float, Range(0.0, 0.9)] = 0.2
    split_seed: Seed | None = None  # None: `training.seed`; one for all runs that answer together, so that none leaks
    phantom_cases: Annotated[int, Range(1, 100_000)] = 60
    phantom_seed: Seed = 2018

    def check(self) -> None:
        if not self.groups or not all(self.groups):
            raise UserError('data.groups: name at least one image in each group, for example [["DWI"],["ADC"]]')
        if not self.targets:
            raise UserError("data.targets is empty: name at least one annotation, for example lesion")
        for name, found in (("groups", self.inputs), ("targets", self.targets)):
            twice = [one for one in found if found.count(one) > 1]
            if twice:
                raise UserError(f"data.{name}: {twice[0]} stands there twice; name it once")
        self._check_preparation()
        if self.fold >= self.folds:
            last = self.folds - 1
            raise UserError(f"data.fold={self.fold} (--fold): folds are counted from 0 to {last} (data.folds)")

    def _check_preparation(self) -> None:
        asked = self.preparation
        named = {"register": (*asked.register, *asked.register.values()), "correct_bias": asked.correct_bias,
                 "strip_skull": (asked.strip_skull,) if asked.strip_skull else ()}  # fmt: skip
        for name, words in named.items():
            strange = [word for word in words if word not in self.channels]
            if strange:
                text = f"the network does not see {strange[0]}; it sees {', '.join(self.channels)}"
                raise UserError(f"data.preparation.{name}: {text}")
        moved = set(asked.register) & set(asked.register.values())
        if moved:
            raise UserError(f"data.preparation.register: {min(moved)} is brought elsewhere itself; name one that stays")
        if asked.any and "CTP" in self.channels:
            raise UserError("data.preparation: it is of volumes; CTP is a series of time points")

    @property
    def kind(self) -> kinds.Kind:
        """What an example is."""
        return kinds.kind(self.example)

    @property
    def channels(self) -> Words:
        """The modalities that are read from files."""
        return tuple(word for group in self.groups for word in group)

    def normalisation(self, word: str) -> Normalisation:
        """How an image is normalised."""
        return self.normalise_of.get(word, self.normalise)

    @property
    def inputs(self) -> Words:
        """What the network sees: the modalities, and behind them what an earlier stage computed."""
        return (*self.channels, *self.derived)


@dataclasses.dataclass(frozen=True)
class Model(Group):
    """A network by name, and its options: the fields of its Linen module."""

    name: Word
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Loss(Group):
    """Weighted terms by name, and the constants that some of them take."""

    terms: Mapping[str, Amount]
    lesion_weight: Amount = 1.0  # class weight maps: lesion pixels
    background_weight: Amount = 1.0  # class weight maps: all other pixels
    focal_gamma: Annotated[float, Range(0.0, 100.0)] = 2.0
    focal_alpha: Fraction | None = None
    level_weights: tuple[Amount, ...] = ()  # deep supervision, coarsest first

    def check(self) -> None:
        if not any(self.terms.values()):
            raise UserError("loss.terms: at least one term with a weight above 0 is needed, such as soft_dice")


@dataclasses.dataclass(frozen=True)
class Optimiser(Group):
    """`adam` and `adamw` as published; `adamw_unscaled` takes decay off the weights without the learning rate."""

    name: Literal["adam", "adamw", "adamw_unscaled"] = "adam"
    learning_rate: Positive = 1e-3
    weight_decay: Amount = 0.0
    clip_variable_norm: Positive | None = None  # each variable's gradient is clipped to this norm


@dataclasses.dataclass(frozen=True)
class Schedule(Group):
    """How the learning rate goes: constant, halved every so many epochs, or linear warm-up and then a cosine to 0."""

    name: Literal["constant", "halving", "warmup_cosine"] = "constant"
    half_every_epochs: Count = 40
    warmup_epochs: CountOrNone = 0


_Zoom = Annotated[float, Range(0.1, 10.0)]


@dataclasses.dataclass(frozen=True)
class Augment(Group):
    """Bounds of the random changes to a training example; zero (or no range) turns a change off."""

    probability: Fraction = 0.5  # of each change, drawn for each example and each change on its own
    flip_left_right: bool = False
    flip_front_back: bool = False
    rotate_degrees: Annotated[float, Range(0.0, 180.0)] = 0.0
    scale: tuple[_Zoom, _Zoom] = (1.0, 1.0)
    shift_fraction: Fraction = 0.0
    elastic_pixels: Annotated[float, Range(0.0, 1000.0)] = 0.0  # standard deviation of the smooth displacement
    elastic_smooth_pixels: Annotated[float, Range(0.5, 1000.0)] = 16.0  # its correlation length
    grid_fraction: Fraction = 0.0  # grid distortion: how far a grid line moves, in grid cells
    optical: Fraction = 0.0  # radial distortion coefficient
    brightness: Amount = 0.0  # added, in units of the normalised image
    contrast: Fraction = 0.0  # relative
    noise: Amount = 0.0  # standard deviation, in units of the normalised image
    # Chance of each image of an example to be 0, whatever `probability` is; one always stays.
    modality_dropout: Fraction = 0.0

    def check(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise UserError(f"augment.scale={self.scale[0]},{self.scale[1]}: give the smaller one first")


@dataclasses.dataclass(frozen=True)
class Training(Group):
    epochs: Count = 200
    steps_per_epoch: Count | None = None  # None: as many as it takes to see as many examples as there are
    slices_per_step: Count | None = None  # else: as many as there are slices to train on, divided by this
    seed: Seed = 0
    patience_epochs: Count | None = None  # stop when the validation loss has not fallen for so long
    validate_every_epochs: Count = 1
    keep_last: Count = 2  # checkpoints, beside the best
    keep_every_epochs: Count | None = None  # and these for ever
    # Above 0: the running mean of the weights is validated, chosen and exported; how much of it each step keeps.
    average: Annotated[float, Range(0.0, 0.999999)] = 0.0

    def check(self) -> None:
        if self.steps_per_epoch and self.slices_per_step:
            raise UserError(
                f"training.slices_per_step={self.slices_per_step}: training.steps_per_epoch={self.steps_per_epoch} "
                "says the length of an epoch already; set one of them to none"
            )


@dataclasses.dataclass(frozen=True)
class Evaluation(Group):
    """How probabilities become a mask, and by which validation score the best checkpoint is chosen.

    `dice` is the mean over studies; the other two are means over slices, in which a slice without lesion in either mask
    counts 1 or 0; `last` takes the weights of the last epoch, as a run without validation studies must.
    """

    threshold: Fraction = 0.5
    largest_component: bool = False
    choose_by: Literal["dice", "slice_dice_empty_1", "slice_dice_empty_0", "last"] = "dice"


@dataclasses.dataclass(frozen=True)
class Cascade(Group):
    """Training in two stages: the first network's synthetic map becomes an image of the second.

    `stage1_networks` is how many first-stage networks there are.  0: no cascade.  1: one network, which also maps the
    studies it was trained on (their annotations leak into the map).  N: each maps the patients it never saw.
    """

    stage1_networks: Annotated[int, Range(0, 100)] = 0


@dataclasses.dataclass(frozen=True)
class Parallel(Group):
    """How a step is spread over devices, for speed and memory.

    `map`: `jit` compiles one program of the whole batch and lets the compiler cut it, `pmap` runs the step on each
    device with explicit sums over them.  `shard_optimiser`: each device keeps a share of the optimiser's state instead
    of all of it.  Both, and the number of devices, change the figures by rounding alone.

    `microbatches`: the batch goes through in so many, one after another, and the step takes the mean of their losses
    and gradients.  That is the whole batch's but for rounding only where a network has neither batch normalisation
    nor dropout and all slices are there: batch normalisation takes the statistics of one microbatch, and its running
    ones move once for each; dropout draws anew; the padding of a volume or clip counts within its microbatch.
    """

    map: Literal["jit", "pmap"] = "jit"
    microbatches: Count = 1
    shard_optimiser: bool = False

    def check(self) -> None:
        if self.map == "pmap" and self.shard_optimiser:
            raise UserError(
                "parallel.shard_optimiser=true: it needs parallel.map=jit, as pmap keeps all on each device"
            )


# Words of before, still read from run folders and commands.  None: nothing is set by it any more; run folders that
# have it are read as if they had it not, as what they computed never depended on it.
_FORMER: Mapping[type, Mapping[str, str | None]] = {Data: {"workers": None}, Parallel: {"accumulate": "microbatches"}}


def present_word(group: type, name: str) -> str | None:
    return _FORMER.get(group, {}).get(name, name)


@dataclasses.dataclass(frozen=True)
class Experiment(Group):
    name: Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "letters, digits, _ . and - are expected")]
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
    scale: Literal["full", "small"] = "full"

    def check(self) -> None:
        warmup, epochs = self.schedule.warmup_epochs, self.training.epochs
        if self.schedule.name == "warmup_cosine" and warmup >= epochs:
            raise UserError(
                f"schedule.warmup_epochs={warmup}: training lasts {epochs} epochs (--epochs); "
                f"choose a warm-up of 0 to {epochs - 1}"
            )
        if bool(self.data.derived) != bool(self.cascade.stage1_networks):
            raise UserError(
                f"cascade.stage1_networks={self.cascade.stage1_networks}: data.derived={list(self.data.derived)}; the "
                'map of a first stage is an image of the second (data.derived=["synthetic"]): set both, or neither'
            )
        dropout, seen = self.augment.modality_dropout, self.data.inputs
        if dropout and len(seen) < 2:
            raise UserError(
                f"augment.modality_dropout={dropout}: the network sees {', '.join(seen)} alone; "
                "at least two images are needed, so that one can be left out"
            )
        if self.data.batch % self.parallel.microbatches:
            raise UserError(
                f"parallel.microbatches={self.parallel.microbatches}: data.batch={self.data.batch} must divide by it"
            )
