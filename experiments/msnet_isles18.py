"""MSNet on ISLES 2018, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1.
Command: python -m jaxstroke.train --exp msnet_isles18
Published, five folds: Dice 54.99 +- 2.72, precision 55.23, recall 63.36; 20.3 MiB, 6.96 G.
Everything but the network is that of `unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="msnet_isles18",
    title="MSNet, CT perfusion maps",
    model=Model("msnet"),
)

SMALL = small("unet_isles18")
