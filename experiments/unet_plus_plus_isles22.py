"""U-Net++ on ISLES 2022, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 2.
Command: python -m jaxstroke.train --exp unet_plus_plus_isles22
Published, five folds: Dice 69.57 +- 1.24, precision 74.94, recall 70.91; 35.0 MiB, 6.66 G.
Everything but the network is that of `unet_isles22`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles22")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="unet_plus_plus_isles22",
    title="U-Net++, DWI and ADC",
    model=Model("unet_plus_plus"),
)

SMALL = small("unet_isles22")
