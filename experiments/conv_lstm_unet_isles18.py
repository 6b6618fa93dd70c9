"""ConvLSTM-U-Net on ISLES 2018, DME-Net's recurrent peer.

Paper: Bianchi et al., "Dual-Memory Temporal-Spatial Encoder for Acute Stroke Evolution Segmentation", Section 3.
Command: python -m jaxstroke.train --exp conv_lstm_unet_isles18
Published: Dice 0.813, HD95 14.7 mm, on the same data as DME-Net's 0.893, which are not the public ISLES 2018 set:
printed, never used as a target.  "All models used the same split of training and validation subjects and followed the
same augmentation rules": everything but the network is that of `dme_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

EXPERIMENT = dataclasses.replace(
    load("dme_isles18"),
    name="conv_lstm_unet_isles18",
    title="ConvLSTM-U-Net, CT perfusion maps and CT",
    model=Model("conv_lstm_unet"),
)

SMALL = {**small("dme_isles18"), "optimiser.learning_rate": 2e-3}
