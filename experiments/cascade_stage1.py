"""The cascade network's first stage on ISLES 2018, in every configuration and on every set of images of Tables 1 and 2.

Paper: Gomez et al., "Deep Cascade Cross-attentional Architecture to Segment Acute Ischemic Stroke Lesions from CTP
Sequences"; Tables 1 and 2.
Command: python -m jaxstroke.train --exp cascade_stage1 (refinement, attention, all images)
         python -m jaxstroke.train --exp cascade_stage1_CONFIGURATION_IMAGES, such as cascade_stage1_mr_tmax_cbv;
         CONFIGURATION is plain, mr (multilevel refinement) or mr_att (and attention), IMAGES one of the columns below
Published: these values of Dice.
            ct   cbv  cbf  tmax mtt  tmax_cbv tmax_cbf cbv_cbf tmax_cbv_cbf all
    plain  .20  .51  .57  .50  .56  .58      .58      .53     .60          .62
    mr     .26  .51  .58  .55  .57  .61      .62      .54     .63          .63
    mr_att .24  .54  .57  .55  .55  .60      .62      .55     .61          .63
From the paper: 224 x 224, 600 epochs, binary cross-entropy with class weights 0.7 (lesion) and 0.3, level weights 0.03
to 0.5, AdamW with learning rate 3e-2 and decay 1e-5, 19 of 94 studies held out, the kinds of augmentation.
Ours: batch 16, the magnitudes of the augmentation, normalisation to mean 0 and deviation 1 of the maps and of CT by its
window of soft tissue (over skull and brain together the brain would be flat); the 19 studies are a fold of five, split
by patient, and the checkpoint is chosen on a fifth of the others, where the paper validates on the 19; and `steady`:
3e-2 is a large step for AdamW, so this variant warms up over 90 epochs and clips each variable's gradient to norm 1, as
the same authors' cross-domain network does.
Cost: 38.4 M parameters, 18.4 G multiply-accumulates a slice.
"""

from jaxstroke.experiment import Augment, Data, Experiment, Loss, Model, Optimiser, Training
from jaxstroke.experiment.catalogue import small

CLASS_WEIGHTS = {"lesion_weight": 0.7, "background_weight": 0.3}

EXPERIMENT = Experiment(
    name="cascade_stage1",
    title="Cascade network, first stage: multilevel refinement and attention, CT and CT perfusion maps",
    paper="cascade",
    data=Data(
        layout="isles2018",
        groups=(("CT", "CBF", "CBV", "MTT", "Tmax"),),
        size=224,
        normalise="zscore",
        normalise_of={"CT": "window"},  # the deviation over skull and brain leaves the brain flat
        batch=16,
    ),
    model=Model("cascade", {"refinement": True, "attention": True}),
    loss=Loss(terms={"multilevel": 1.0}, level_weights=(0.03, 0.045, 0.05, 0.125, 0.25, 0.5), **CLASS_WEIGHTS),
    optimiser=Optimiser("adamw", learning_rate=3e-2, weight_decay=1e-5),
    augment=Augment(
        flip_left_right=True,
        flip_front_back=True,
        rotate_degrees=30.0,
        elastic_pixels=3.0,
        grid_fraction=0.3,
        optical=0.1,
        brightness=0.2,
        contrast=0.2,
    ),
    training=Training(epochs=600),
)

SMALL = {
    **small("mdanet_isles18"),
    "optimiser.learning_rate": 3e-3,
    "schedule.name": "halving",  # `steady` differs from it by its cosine
    "schedule.half_every_epochs": 1,
    "augment.elastic_pixels": 1.0,  # larger pixels
}

CONFIGURATIONS = {
    "plain": {"model.refinement": False, "model.attention": False, "loss.terms": {"cross_entropy": 1.0}},
    "mr": {"model.attention": False},
    "mr_att": {},
}
IMAGES = {
    "ct": ("CT",),
    "cbv": ("CBV",),
    "cbf": ("CBF",),
    "tmax": ("Tmax",),
    "mtt": ("MTT",),
    "tmax_cbv": ("Tmax", "CBV"),
    "tmax_cbf": ("Tmax", "CBF"),
    "cbv_cbf": ("CBV", "CBF"),
    "tmax_cbv_cbf": ("Tmax", "CBV", "CBF"),
    "all": ("CT", "CBF", "CBV", "MTT", "Tmax"),
}
VARIANTS = {
    f"{configuration}_{images}": {**changes, "data.groups": (words,)}
    for configuration, changes in CONFIGURATIONS.items()
    for images, words in IMAGES.items()
} | {
    "steady": {
        "schedule.name": "warmup_cosine",
        "schedule.warmup_epochs": 90,
        "optimiser.clip_variable_norm": 1.0,
    }
}

SMALL_VARIANTS = {"steady": {"schedule.warmup_epochs": 1}}
