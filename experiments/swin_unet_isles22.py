"""Swin-Unet on ISLES 2022, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 2.
Command: python -m jaxstroke.train --exp swin_unet_isles22
Published, five folds: Dice 55.08 +- 3.02, precision 56.36, recall 65.40; 105.4 MiB, 6.10 G.
Everything but the network and the size is that of `unet_isles22`.  The size is 224 where the others have 112: Swin-Unet
takes sizes that 32 divides, and the 6.10 G that the paper prints are those of 224 x 224.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles22")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="swin_unet_isles22",
    title="Swin-Unet, DWI and ADC",
    model=Model("swin_unet"),
    data=dataclasses.replace(BASE.data, size=224),
)

SMALL = {**small("unet_isles22"), "model.width": 12}
