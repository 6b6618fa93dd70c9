"""Swin-Unet on ISLES 2018, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1.
Command: python -m jaxstroke.train --exp swin_unet_isles18
Published, five folds: Dice 48.50 +- 3.85, precision 51.42, recall 55.25; 106.0 MiB, 6.14 G.
Everything but the network is that of `unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="swin_unet_isles18",
    title="Swin-Unet, CT perfusion maps",
    model=Model("swin_unet"),
)

SMALL = {**small("unet_isles18"), "model.width": 12}
