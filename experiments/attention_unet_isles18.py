"""Attention U-Net on ISLES 2018, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1.
Command: python -m jaxstroke.train --exp attention_unet_isles18
Published, five folds: Dice 54.37 +- 2.36, precision 54.61, recall 62.41; 29.9 MiB, 9.92 G.
Everything but the network is that of `unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="attention_unet_isles18",
    title="Attention U-Net, CT perfusion maps",
    model=Model("attention_unet"),
)

SMALL = small("unet_isles18")
