"""TransUNet on ISLES 2018, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1.
Command: python -m jaxstroke.train --exp trans_unet_isles18
Published, five folds: Dice 52.34 +- 3.73, precision 53.42, recall 59.05; 175.3 MiB, 19.19 G.
Everything but the network is that of `unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="trans_unet_isles18",
    title="TransUNet, CT perfusion maps",
    model=Model("trans_unet"),
)

SMALL = {
    **small("unet_isles18"),
    "model.width": 16,
    "model.hidden": 64,
    "model.mlp": 32,
    "model.layers": 2,
    "model.decoder": (64, 32, 16, 16, 16),  # the last one as in full: through eight features it found no lesion
}
