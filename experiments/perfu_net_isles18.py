"""PerfU-Net on ISLES 2018, from the CT perfusion source images: a row that MDANet quotes and did not run again.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1; network: de Vries et al.,
"PerfU-Net: Baseline infarct estimation from CT perfusion source data for acute ischemic stroke", 2023.
Command: python -m jaxstroke.train --exp perfu_net_isles18
Published: Dice 56.40, precision 56.50, recall 64.40 in MDANet's table; PerfU-Net's abstract gives 0.46 on the
challenge's test set.  From public descriptions of its code: 16 time points, 256 x 256.
Ours: batch 4 (a series is 16 images), and the network is approximate (its docstring says where); all else is that of
`unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="perfu_net_isles18",
    title="PerfU-Net (approximate), CT perfusion source images",
    data=dataclasses.replace(BASE.data, groups=(("CTP",),), example="series", depth=16, size=256, batch=4),
    model=Model("perfu_net"),
)

SMALL = {**small("unet_isles18"), "data.depth": 8}
