"""Cross-domain dual network V1: both decoders start from both modalities, attention gates in the decoders.

Paper: Gomez et al., "Ischemic Stroke Segmentation from a Cross-Domain Representation in Multimodal Diffusion Studies",
MICCAI 2023; Table 1.
Command: python -m jaxstroke.train --exp crossdomain_v1
Published, Dice against reader 1 and reader 2: ADC 0.56 +- 0.28 and 0.60 +- 0.29, DWI 0.58 +- 0.30 and 0.61 +- 0.29, on
82 studies of one hospital that are not public.
From the paper: ADC and DWI with a target each, reader 1 for training, 224 x 224, batch 16, focal loss with gamma 2 and
alpha 0.25 and class weights of 1 and 3, AdamW, a warm-up to 5e-3 over 90 epochs and a cosine over 210, decay 1e-5, and
the kinds of augmentation.  From the authors' published code: the decay is taken off the weights without the learning
rate, each variable's gradient is clipped to norm 1.  (That code leaves alpha out: `--set loss.focal_alpha=none`.)
The split is the paper's, 40 + 11 + 31 studies: those that `studies.csv` marks are for testing, and 11 in 51 of the rest
validate.  Ours: which of them, the magnitudes of the augmentation, and normalisation to mean 0 and deviation 1.
The checkpoint is chosen by the mean Dice over slices, an empty slice with an empty answer counting 1, as the printed
unimodal row needs; every run keeps the best checkpoint under the other rule too (`evaluate --choose-by
slice_dice_empty_0`).
Variants: `literal` follows the text's five pools where the authors' code has four; `text_decay` is AdamW as usually
understood, with decay times the learning rate and no clipping, as the text says it; `literal_text_decay` is both,
all as the text reads.
Cost: 57.5 M parameters, 43.3 G multiply-accumulates a slice.
"""

from jaxstroke.experiment import Augment, Data, Evaluation, Experiment, Loss, Model, Optimiser, Schedule, Training

EXPERIMENT = Experiment(
    name="crossdomain_v1",
    title="Cross-domain dual network V1: joined bottleneck, gates in the decoders",
    paper="cross_domain",
    data=Data(
        layout="two_reader",
        groups=(("ADC",), ("DWI",)),
        targets=("ADC/R1", "DWI/R1"),
        size=224,
        normalise="zscore",
        batch=16,
        folds=3,
        validation_fraction=11 / 51,
        phantom_cases=82,
    ),
    model=Model("cross_domain", {"version": "v1"}),
    loss=Loss(terms={"focal": 1.0}, lesion_weight=3.0, background_weight=1.0, focal_gamma=2.0, focal_alpha=0.25),
    optimiser=Optimiser("adamw_unscaled", learning_rate=5e-3, weight_decay=1e-5, clip_variable_norm=1.0),
    schedule=Schedule("warmup_cosine", warmup_epochs=90),
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
    training=Training(epochs=300),
    evaluation=Evaluation(choose_by="slice_dice_empty_1"),
)

SMALL = {
    "data.size": 64,
    "data.spacing_mm": 3.0,  # the head and not the whole field of view: lesions are a few pixels wide
    "data.batch": 4,
    "data.phantom_cases": 36,
    "data.lesion_fraction": 0.5,  # few steps and small lesions: else most batches hold none
    "model.width": 8,
    "model.dropout": 0.1,
    "model.momentum": 0.9,  # a hundredth of the steps: statistics must follow sooner
    "loss.focal_alpha": None,  # as the authors' code: with it a hesitant network answers with nothing
    "optimiser.learning_rate": 3e-3,
    "schedule.warmup_epochs": 0,
    "augment.elastic_pixels": 1.0,  # larger pixels
    "training.epochs": 10,
    "training.steps_per_epoch": 160,
    "evaluation.choose_by": "dice",  # else early checkpoints win that answer with nothing
}

TEXT_DECAY = {"optimiser.name": "adamw", "optimiser.clip_variable_norm": None}

VARIANTS = {
    "literal": {"model.literal": True},
    "text_decay": TEXT_DECAY,
    "literal_text_decay": {"model.literal": True, **TEXT_DECAY},
}
