"""OctopusNet on ISLES 2018: a row that MDANet quotes and did not run again.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1; the network: Chen et al.,
"OctopusNet: A Deep Learning Segmentation Network for Multi-modal Medical Images", 2019.
Command: python -m jaxstroke.train --exp octopus_net_isles18
Published: Dice 57.92.  The network is approximate (its docstring says where), and the paper's own training is not
followed: everything but the network is that of `unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

EXPERIMENT = dataclasses.replace(
    load("unet_isles18"),
    name="octopus_net_isles18",
    title="OctopusNet (approximate), CT perfusion maps",
    model=Model("octopus_net"),
)

SMALL = {**small("unet_isles18"), "model.width": 4}
