"""MSNet on ISLES 2022, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 2.
Command: python -m jaxstroke.train --exp msnet_isles22
Published, five folds: Dice 68.66 +- 1.30, precision 74.59, recall 69.42; 20.3 MiB, 1.73 G.
Everything but the network is that of `unet_isles22`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles22")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="msnet_isles22",
    title="MSNet, DWI and ADC",
    model=Model("msnet"),
)

SMALL = small("unet_isles22")
