"""Cross-domain paper's baseline on DWI alone: one encoder, one decoder with attention gates.

Paper: Gomez et al., "Ischemic Stroke Segmentation from a Cross-Domain Representation in Multimodal Diffusion Studies",
MICCAI 2023; Table 1, Unimodal.
Command: python -m jaxstroke.train --exp crossdomain_unimodal_dwi
Published, Dice against reader 1 and reader 2: 0.45 +- 0.34 and 0.45 +- 0.34, on 82 studies of one hospital that are not
public.
Everything but the modality is that of `crossdomain_v1`; `literal` has the text's five pools.
Cost: 26.1 M parameters, 19.6 G multiply-accumulates a slice.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("crossdomain_v1")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="crossdomain_unimodal_dwi",
    title="Cross-domain paper's unimodal baseline: DWI alone, gates in the decoder",
    data=dataclasses.replace(BASE.data, groups=(("DWI",),), targets=("DWI/R1",)),
    model=Model("cross_domain", {"version": "unimodal"}),
)

SMALL = small("crossdomain_v1")

VARIANTS = {"literal": {"model.literal": True}}
