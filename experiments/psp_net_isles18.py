"""PSPNet with the focal loss on ISLES 2018: a row that MDANet quotes and did not run again.

Paper: "MDANet: Multimodal difference aware network for brain stroke segmentation", Table 1; Abulnaga and Rubin,
"Ischemic Stroke Lesion Segmentation in CT Perfusion Scans using Pyramid Pooling and Focal Loss", 2018.
Command: python -m jaxstroke.train --exp psp_net_isles18
Published: Dice 54.00, with weights pretrained on photographs, which are not used here.
From that paper: the perfusion maps and CT as channels, the focal loss, five folds.  Everything else is that of
`unet_isles18`.
"""

import dataclasses

from jaxstroke.experiment import Loss, Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("unet_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="psp_net_isles18",
    title="PSPNet with focal loss, CT and CT perfusion maps",
    data=dataclasses.replace(BASE.data, groups=(("CBF", "CBV", "MTT", "Tmax"), ("CT",))),
    model=Model("psp_net"),
    loss=Loss(terms={"focal": 1.0}, focal_gamma=2.0),
)

SMALL = small("unet_isles18")
