"""U-Net on ISLES 2018, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1.
Command: python -m jaxstroke.train --exp unet_isles18
Published, five folds: Dice 53.34 +- 0.85, precision 57.09, recall 56.90; 30.0 MiB, 10.81 G.
All models "under the same configuration": everything but the network is that of `mdanet_isles18`, without the
similarity loss, which only two streams can have.
"""

import dataclasses

from jaxstroke.experiment import Loss, Model
from jaxstroke.experiment.catalogue import load, small

EXPERIMENT = dataclasses.replace(
    load("mdanet_isles18"),
    name="unet_isles18",
    title="U-Net, CT perfusion maps",
    model=Model("unet"),
    loss=Loss(terms={"soft_dice": 1.0, "cross_entropy": 1.0}),
)

SMALL = small("mdanet_isles18")
