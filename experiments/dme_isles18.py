"""DME-Net on ISLES 2018: temporal and spatial memory with a gate.

Paper: Bianchi et al., "Dual-Memory Temporal-Spatial Encoder for Acute Stroke Evolution Segmentation".
Command: python -m jaxstroke.train --exp dme_isles18
Published: Dice 0.893, HD95 8.9 mm, on 228 subjects with DWI and ADC that the public ISLES 2018 set does not hold
(94 CT-perfusion cases of 63 patients): printed as a claim on data that are not public, never used as a target.
From the paper: Adam 1e-4 halved every 40 epochs, 200 epochs, early stopping on the validation loss, batch 8, 160 x 160
patches at 1 mm, (x - median) / IQR of each slice, rotation, small elastic and contrast changes, soft Dice + boundary
loss, largest component kept.
A batch of 8 slices is two clips here: half of the public studies have two slices, so that a clip holds 4.5 on average;
an epoch has as many steps as there are slices, divided by 8: about 40, and 8,000 in all, as the paper's batch means.
Ours: which images feed which memory, clips of 8 slices, half of them drawn to hold lesion, the sizes of the memories,
the magnitudes of the augmentation, a patience of 40 epochs, and the unit of the boundary loss: the paper sums two
losses without saying in what unit distances are, and in pixels the boundary term drowns the Dice term, so they are
counted in widths of the patch.  Named by the paper and absent: weight decay (without a figure), bias-field correction,
registration.
"""

from jaxstroke.experiment import (
    Augment,
    Data,
    Evaluation,
    Experiment,
    Loss,
    Model,
    Optimiser,
    Schedule,
    Training,
)

SIZE, SMALL_SIZE = 160, 64  # pixels; distances of the boundary loss are divided by them

EXPERIMENT = Experiment(
    name="dme_isles18",
    title="DME-Net: temporal and spatial memory with a gate, CT perfusion maps and CT",
    paper="dme_net",
    data=Data(
        layout="isles2018",
        groups=(("CBF", "CBV", "MTT", "Tmax"), ("CT",)),
        example="clip",
        size=SIZE,
        spacing_mm=1.0,
        depth=8,
        batch=2,
        lesion_fraction=0.5,
    ),
    model=Model("dme_net"),
    loss=Loss(terms={"soft_dice": 1.0, "boundary": 1 / SIZE}),
    optimiser=Optimiser("adam", learning_rate=1e-4),
    schedule=Schedule("halving", half_every_epochs=40),
    augment=Augment(rotate_degrees=15.0, elastic_pixels=2.0, contrast=0.2),
    training=Training(epochs=200, slices_per_step=8, patience_epochs=40),
    evaluation=Evaluation(largest_component=True),
)

SMALL = {
    "data.size": SMALL_SIZE,
    "data.spacing_mm": 3.0,
    "data.batch": 4,
    "data.depth": 4,  # most studies have two slices or four: longer clips would be padding
    "data.phantom_cases": 80,
    "model.width": 8,
    "loss.terms.boundary": 1 / SMALL_SIZE,
    "optimiser.learning_rate": 3e-3,
    "augment.flip_left_right": True,  # few studies: more variety than the paper's
    "augment.scale": (0.9, 1.1),
    "training.epochs": 32,
    "training.slices_per_step": None,
    "training.validate_every_epochs": 4,
    "training.patience_epochs": None,
}

VARIANTS = {
    "no_temporal": {"model.temporal": False},
    "no_spatial": {"model.spatial": False},
}
