"""3D-U-Net on ISLES 2018, DME-Net's volumetric peer.

Paper: Bianchi et al., "Dual-Memory Temporal-Spatial Encoder for Acute Stroke Evolution Segmentation", Section 3.
Command: python -m jaxstroke.train --exp unet3d_isles18
Published: Dice 0.846, HD95 13.8 mm, on the same data as DME-Net's 0.893, which are not the public ISLES 2018 set:
printed, never used as a target.  Everything but the network is that of `dme_isles18`, with a volume of 8 slices in the
place of a clip.
`unet3d_isles18_narrow` has a quarter of the parameters.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("dme_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="unet3d_isles18",
    title="3D-U-Net, CT perfusion maps and CT",
    data=dataclasses.replace(BASE.data, example="volume"),
    model=Model("unet3d"),
)

SMALL = {**small("dme_isles18"), "model.width": 4, "optimiser.learning_rate": 2e-3}

VARIANTS = {"narrow": {"model.width": 16}}

SMALL_VARIANTS = {"narrow": {"model.width": 2}}
