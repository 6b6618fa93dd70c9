"""Attention U-Net on ISLES 2022, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 2.
Command: python -m jaxstroke.train --exp attention_unet_isles22
Published, five folds: Dice 68.20 +- 0.86, precision 72.95, recall 70.65; 29.9 MiB, 2.47 G.
Everything but the network is that of `unet_isles22`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles22")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="attention_unet_isles22",
    title="Attention U-Net, DWI and ADC",
    model=Model("attention_unet"),
)

SMALL = small("unet_isles22")
