"""MDANet on ISLES 2018: two groups of CT perfusion maps, segmented by their difference.

Paper: Zhang et al., "MDANet: Multimodal difference aware network for brain stroke segmentation", 2024; Table 1, and as
variants the ablations of Tables 3 to 6.
Command: python -m jaxstroke.train --exp mdanet_isles18
         python -m jaxstroke.train --exp mdanet_isles18_VARIANT, with the variants below
Published, five folds: Dice 58.34 +- 2.11, precision 60.22 +- 3.69, recall 64.03 +- 2.89, F1 0.6195.
  Table 3, parts added in turn: unet 53.34, dasc 55.31, dasc_msc 56.64, dasc_msc_gcfb 57.50, all of it 58.34.
  Table 4, what a skip does with the groups: skip_add 56.22, skip_concat 57.72, subtract 58.34.
  Table 5, what stands in the middle: fusion_none 56.32, fusion_non_local 56.98, fusion_transformer 57.14, graph 58.34.
  Table 6, weight of the similarity loss: similarity_0 57.50, _025 58.19, _050 58.11, _075 58.25, and 1 58.34.
From the paper: CBF and CBV against MTT and Tmax, batch 16, Adam 1e-3 (0.9, 0.999), Dice + cross-entropy + similarity
of weight 1, flips, rotation by up to 90 degrees, scaling by 0.8 to 1.2, five-fold cross-validation (`data.fold`).  From
its operation counts: 224 x 224.  Ours, as it does not say: 200 epochs, folds by patient, normalisation by median and
interquartile range; in Table 4 the skips change and the subtraction after the graph block stays.
The paper speaks of no validation set.  The default holds back a fifth of the other folds' patients to choose the epoch
by, which trains on 58 to 64 of the public cases; `all_train` trains on all four folds, some 75 cases, and takes the
last epoch.
Table 3's fourth row and Table 6's first are one network and one loss, and the paper prints the same figures for both.
Cost: 6.61 M parameters, 11.1 G multiply-accumulates a slice.
"""

from jaxstroke.experiment import Augment, Data, Experiment, Loss, Model, Optimiser, Training

SEGMENTATION = {"soft_dice": 1.0, "cross_entropy": 1.0}

EXPERIMENT = Experiment(
    name="mdanet_isles18",
    title="MDANet: difference-aware skips and graph fusion, CT perfusion maps",
    paper="mdanet",
    data=Data(
        layout="isles2018",
        groups=(("CBF", "CBV"), ("MTT", "Tmax")),
        example="slice",
        size=224,
        batch=16,
    ),
    model=Model("mda_net"),
    loss=Loss(terms={**SEGMENTATION, "similarity": 1.0}),
    optimiser=Optimiser("adam", learning_rate=1e-3),
    augment=Augment(flip_left_right=True, flip_front_back=True, rotate_degrees=90.0, scale=(0.8, 1.2)),
    training=Training(epochs=200),
)

# Of every table on slices of ISLES 2018, so that rows differ by their network alone; others take it by `small`.
SMALL = {
    "data.size": 64,
    "data.batch": 4,
    "data.phantom_cases": 80,  # the phantom of `dme_isles18`: made once
    "model.width": 8,
    "optimiser.learning_rate": 2e-3,
    "schedule.name": "warmup_cosine",  # a hundredth of the steps: a constant rate ends where its noise leaves it
    "training.epochs": 5,
    "training.steps_per_epoch": 100,  # whatever the fold, which is one program for all of them
}

# Five folds without a validation set, as the paper has them: all of the other four train, and the last epoch counts.
ALL_TRAIN = {"data.validation_fraction": 0.0, "evaluation.choose_by": "last"}

VARIANTS = {
    "all_train": ALL_TRAIN,
    # Table 3: difference-aware skips, multi-scale blocks, graph fusion and similarity loss, added in turn to U-Net
    "unet": {"model.name": "unet", "loss.terms": SEGMENTATION},
    "dasc": {"model.blocks": "double", "model.fusion": "none", "loss.terms": SEGMENTATION},
    "dasc_msc": {"model.fusion": "none", "loss.terms": SEGMENTATION},
    "dasc_msc_gcfb": {"loss.terms": SEGMENTATION},
    # Table 4
    "skip_add": {"model.skip": "add"},
    "skip_concat": {"model.skip": "concat"},
    # Table 5
    "fusion_none": {"model.fusion": "none"},
    "fusion_non_local": {"model.fusion": "non_local"},
    "fusion_transformer": {"model.fusion": "transformer"},
    # Table 6
    "similarity_0": {"loss.terms.similarity": 0.0},
    "similarity_025": {"loss.terms.similarity": 0.25},
    "similarity_050": {"loss.terms.similarity": 0.5},
    "similarity_075": {"loss.terms.similarity": 0.75},
}
