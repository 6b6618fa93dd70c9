"""What an experiment is: plain frozen data.

It names networks, data sets and losses by word and imports none of the rooms that know them, so that listing the
experiments costs no start-up time and a run folder can be read anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

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
