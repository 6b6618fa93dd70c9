"""U-Net on ISLES 2022, as MDANet's authors ran it.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 2.
Command: python -m jaxstroke.train --exp unet_isles22
Published, five folds: Dice 63.93 +- 3.26, precision 74.55, recall 62.11; 30.0 MiB, 2.69 G.
Data and size are those of `mdanet_isles22`, all else that of `unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment.catalogue import load, small

EXPERIMENT = dataclasses.replace(
    load("unet_isles18"),
    name="unet_isles22",
    title="U-Net, DWI and ADC",
    data=load("mdanet_isles22").data,
)

SMALL = small("mdanet_isles22")
