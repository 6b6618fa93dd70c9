"""Pool-UNet on ISLES 2018: a row that MDANet quotes and did not run again.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1; the network: Liu et al.,
"Pool-UNet: Ischemic stroke segmentation from CT perfusion scans using PoolFormer UNet", 2022.
Command: python -m jaxstroke.train --exp pool_unet_isles18
Published: Dice 56.04, precision 67.82, recall 56.54.  The network is approximate (its docstring says where); everything
but the network is that of `unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

EXPERIMENT = dataclasses.replace(
    load("unet_isles18"),
    name="pool_unet_isles18",
    title="Pool-UNet (approximate), CT perfusion maps",
    model=Model("pool_unet"),
)

SMALL = small("unet_isles18")
