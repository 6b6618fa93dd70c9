"""MDANet on ISLES 2022: DWI against ADC.

Paper: Zhang et al., "MDANet: Multimodal difference aware network for brain stroke segmentation", 2024; Table 2.
Command: python -m jaxstroke.train --exp mdanet_isles22
Published, five folds: Dice 70.44 +- 0.97, precision 75.30 +- 2.71, recall 72.22 +- 1.63, F1 0.7368.
Everything but data and size is that of `mdanet_isles18`.  The paper does not say the size: the operations that it
prints for U-Net and the other peers are those of 112 x 112, and so this is the default; MDANet's own 3.57 G is met at
128 x 128 (3.61 G; 2.76 G at 112), the variant `size128`.  `all_train` is the paper's way with folds, as there.
Cost: 6.39 M parameters, 2.76 G multiply-accumulates a slice.
"""

import dataclasses

from jaxstroke.experiment.catalogue import load, small

BASE = load("mdanet_isles18")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="mdanet_isles22",
    title="MDANet: difference-aware skips and graph fusion, DWI and ADC",
    data=dataclasses.replace(BASE.data, layout="isles2022", groups=(("DWI",), ("ADC",)), size=112),
)

SMALL = {
    **small("mdanet_isles18"),
    "data.phantom_cases": 72,  # the phantom of `reliability`
    "data.lesion_fraction": 0.5,  # few steps and small lesions: else most batches hold none
}

VARIANTS = {
    "size128": {"data.size": 128},
    "all_train": {"data.validation_fraction": 0.0, "evaluation.choose_by": "last"},
}

SMALL_VARIANTS = {"size128": {"data.size": 80}}
