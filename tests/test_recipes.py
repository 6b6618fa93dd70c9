"""What the papers print, typed from them and from nowhere else, and each experiment held against it.

The first column is the paper's own words or place; a figure that the paper does not state is not here.
"""

from __future__ import annotations

from typing import Any

import pytest

from jaxstroke.experiment import catalogue
from jaxstroke.schedules import BETA_1, BETA_2, learning_rate

MAPS = ("CBF", "CBV", "MTT", "Tmax")

# Paper -> experiments -> (where it says so, field, value)
DME_NET = [
    ("2.5: a batch size of 8 (slices)", "training.slices_per_step", 8),
    ("2.5: the Adam optimizer", "optimiser.name", "adam"),
    ("2.5: an initial learning rate of 1e-4", "optimiser.learning_rate", 1e-4),
    ("2.5: reduced by half", "schedule.name", "halving"),
    ("2.5: every 40 epochs", "schedule.half_every_epochs", 40),
    ("2.5: trained for 200 epochs", "training.epochs", 200),
    ("2.5: the patch size was fixed at 160 x 160", "data.size", 160),
    ("2.1: resampled to 1 x 1 x 1 mm", "data.spacing_mm", 1.0),
    ("2.3: subtracting the median and dividing by the interquartile range", "data.normalise", "median_iqr"),
    ("2.3: largest-component selection", "evaluation.largest_component", True),
    ("2.4: the sum of Dice loss", "loss.terms.soft_dice", 1.0),
]
MDANET = [
    ("4.2: a batch size of 16", "data.batch", 16),
    ("4.2: the Adam optimizer", "optimiser.name", "adam"),
    ("4.2: an initial learning rate of 1e-3", "optimiser.learning_rate", 1e-3),
    ("4.2: 5-fold cross-validation", "data.folds", 5),
    ("4.2: flips", "augment.flip_left_right", True),
    ("4.2: flips", "augment.flip_front_back", True),
    ("4.2: rotation, -90 to 90 degrees", "augment.rotate_degrees", 90.0),
    ("4.2: scaling, 0.8 to 1.2", "augment.scale", (0.8, 1.2)),
    ("eq. 10: dice loss", "loss.terms.soft_dice", 1.0),
    ("eq. 10: cross entropy", "loss.terms.cross_entropy", 1.0),
]
SIMILARITY = [("4.6: lambda = 1 in all experiments", "loss.terms.similarity", 1.0)]
PERFUSION_GROUPS = [
    ("4.2: CBF and CBV into one group, MTT and TMax to another", "data.groups", (("CBF", "CBV"), ("MTT", "Tmax"))),
]
CROSS_DOMAIN = [
    ("2.3: resized to 224 x 224", "data.size", 224),
    ("2.3: a batch size of 16", "data.batch", 16),
    ("2.3: over 300 epochs", "training.epochs", 300),
    ("2.3: a Focal loss", "loss.terms", {"focal": 1.0}),
    ("2.3: gamma = 2", "loss.focal_gamma", 2.0),
    ("2.3: alpha = 0.25", "loss.focal_alpha", 0.25),
    ("2.3: class weights, 3 for lesion voxels", "loss.lesion_weight", 3.0),
    ("2.3: class weights, 1 for non-lesion voxels", "loss.background_weight", 1.0),
    ("2.3: learning rate 5e-3", "optimiser.learning_rate", 5e-3),
    ("2.3: decay 1e-5", "optimiser.weight_decay", 1e-5),
    ("2.3: linear warm-up, then cosine decay", "schedule.name", "warmup_cosine"),
    ("2.3: in the first 90 epochs", "schedule.warmup_epochs", 90),
    ("2.3: 11 of the 51 training studies validate", "data.validation_fraction", 11 / 51),
]
TWO_READINGS = [
    ("2.3: ADC and DWI", "data.groups", (("ADC",), ("DWI",))),
    ("2.3: annotations from a single expert (R1)", "data.targets", ("ADC/R1", "DWI/R1")),
]
CASCADE = [
    ("3: resized to 224x224", "data.size", 224),
    ("3: 600 epochs", "training.epochs", 600),
    ("3: an AdamW optimizer", "optimiser.name", "adamw"),
    ("3: an initial learning rate of 3e-2", "optimiser.learning_rate", 3e-2),
    ("3: weight decay of 1e-5", "optimiser.weight_decay", 1e-5),
    ("3: W = {.03,.045,.05,.125,.25,.5}", "loss.level_weights", (0.03, 0.045, 0.05, 0.125, 0.25, 0.5)),
    ("3: .7 for the lesion", "loss.lesion_weight", 0.7),
    ("3: .3 for the background", "loss.background_weight", 0.3),
]
CT_WINDOW = {"CT": "window"}
TABLE: dict[str, list[tuple[str, str, Any]]] = {
    "dme_isles18": [
        *DME_NET,
        ("ours, from 2.4", "data.groups", (MAPS, ("CT",))),
        ("ours: distances in widths of the patch", "loss.terms.boundary", 1 / 160),
    ],
    "conv_lstm_unet_isles18": DME_NET,
    "unet3d_isles18": DME_NET,
    "mdanet_isles18": [*MDANET, *SIMILARITY, *PERFUSION_GROUPS],
    "mdanet_isles22": [*MDANET, *SIMILARITY, ("4.2: DWI and ADC", "data.groups", (("DWI",), ("ADC",)))],
    **{
        f"mdanet_isles18_similarity_{word}": [*MDANET, ("Table 6: lambda", "loss.terms.similarity", weight)]
        for word, weight in (("0", 0.0), ("025", 0.25), ("050", 0.5), ("075", 0.75))
    },
    "unet_isles18": [*MDANET, *PERFUSION_GROUPS],
    "crossdomain_v1": [*CROSS_DOMAIN, *TWO_READINGS],
    "crossdomain_v2": [*CROSS_DOMAIN, *TWO_READINGS],
    "crossdomain_v3": [*CROSS_DOMAIN, *TWO_READINGS],
    "crossdomain_unimodal_adc": [*CROSS_DOMAIN, ("3: ADC alone", "data.targets", ("ADC/R1",))],
    "crossdomain_unimodal_dwi": [*CROSS_DOMAIN, ("3: DWI alone", "data.groups", (("DWI",),))],
    "cascade_stage1": [*CASCADE, ("3: a plain CT image, and four parametric maps", "data.groups", (("CT", *MAPS),))],
    "cascade_isles18": [*CASCADE, ("ours: CT is flat over skull and brain together", "data.normalise_of", CT_WINDOW)],
    **{
        f"crossdomain_{version}_literal": [
            *CROSS_DOMAIN,
            ("2.1: 32 to 512 filters, and a bottleneck", "model.options.literal", True),
            ("2.1: one latent map by concatenation", "model.options.joint", True),
        ]
        for version in ("v2", "v3")
    },
}


@pytest.mark.parametrize("name", TABLE)
def test_the_recipe_is_the_papers(name: str) -> None:
    experiment = catalogue.load(name)
    for where, field, value in TABLE[name]:
        node: Any = experiment
        for part in field.split("."):
            node = node[part] if isinstance(node, dict) else getattr(node, part)
        assert node == value, f"{where}: {field} is {node}"


def test_every_kind_of_augmentation_that_a_paper_names_is_on() -> None:
    named = {
        "dme_isles18": ("rotate_degrees", "elastic_pixels", "contrast"),  # 2.3
        "mdanet_isles18": ("flip_left_right", "rotate_degrees"),  # 4.2
        "crossdomain_v1": ("brightness", "contrast", "flip_left_right", "rotate_degrees", "elastic_pixels",
                           "grid_fraction", "optical"),  # 2.3
        "cascade_stage1": ("brightness", "contrast", "flip_left_right", "rotate_degrees", "elastic_pixels",
                           "grid_fraction", "optical"),  # 3
    }  # fmt: skip
    for name, kinds in named.items():
        augment = catalogue.load(name).augment
        assert augment.probability > 0 and all(getattr(augment, kind) for kind in kinds), name


def test_what_holds_where_neither_paper_nor_experiment_says_otherwise() -> None:
    """Ours: a probability above one half is lesion, and each random change happens to every other example."""
    for name in catalogue.names():
        experiment = catalogue.load(name)
        assert (experiment.evaluation.threshold, experiment.augment.probability) == (0.5, 0.5), name


def test_betas_of_adam() -> None:
    assert (BETA_1, BETA_2) == (0.9, 0.999)  # MDANet, 4.2


def test_the_rate_after_so_many_epochs() -> None:
    """DME-Net: 1e-4 to epoch 40, half of it to 80, 1/16 at the end.  Cross-domain: 0, 5e-3 after 90, 0 after 300."""
    dme, cross = catalogue.load("dme_isles18"), catalogue.load("crossdomain_v1")
    one, other = (
        learning_rate(made.schedule, made.optimiser, steps_per_epoch=10, epochs=made.training.epochs)
        for made in (dme, cross)
    )
    rates = [float(one(10 * epoch)) for epoch in (0, 39, 40, 80, 199)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 6.25e-6])
    halfway = 90 + 105
    assert [float(other(10 * epoch)) for epoch in (0, 45, 90, halfway, 300)] == pytest.approx(
        [0, 2.5e-3, 5e-3, 2.5e-3, 0], abs=1e-8
    )
