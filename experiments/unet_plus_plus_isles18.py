"""U-Net++ on ISLES 2018, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1.
Command: python -m jaxstroke.train --exp unet_plus_plus_isles18
Published, five folds: Dice 55.04 +- 2.61, precision 55.96, recall 62.47; 35.0 MiB, 26.69 G.
Everything but the network is that of `unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="unet_plus_plus_isles18",
    title="U-Net++, CT perfusion maps",
    model=Model("unet_plus_plus"),
)

SMALL = small("unet_isles18")
