"""TransUNet on ISLES 2022, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 2.
Command: python -m jaxstroke.train --exp trans_unet_isles22
Published, five folds: Dice 69.75 +- 1.23, precision 75.03, recall 69.80; 175.3 MiB, 4.61 G.
Everything but the network is that of `unet_isles22`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles22")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="trans_unet_isles22",
    title="TransUNet, DWI and ADC",
    model=Model("trans_unet"),
)

SMALL = {
    **small("unet_isles22"),
    "model.width": 16,
    "model.hidden": 64,
    "model.mlp": 32,
    "model.layers": 2,
    "model.decoder": (64, 32, 16, 16, 16),  # the last one as in full: through eight features it found no lesion
}
