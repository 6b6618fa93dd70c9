"""Cross-domain dual network V2: gates between the encoders.

Paper: Gomez et al., "Ischemic Stroke Segmentation from a Cross-Domain Representation in Multimodal Diffusion Studies",
MICCAI 2023; Table 1.
Command: python -m jaxstroke.train --exp crossdomain_v2
Published, Dice against reader 1 and reader 2: ADC 0.49 +- 0.29 and 0.53 +- 0.29, DWI 0.52 +- 0.29 and 0.53 +- 0.28, on
82 studies of one hospital that are not public.
Everything but the network's version is that of `crossdomain_v1`.  In the authors' published code each decoder starts
from its own bottleneck; `joint` follows the text, where both start from the concatenation; `literal` has its five
pools as well.
Cost: 52.2 M parameters, 39.2 G multiply-accumulates a slice.
"""

import dataclasses

from jaxstroke.experiment import Model
from jaxstroke.experiment.catalogue import load, small

BASE = load("crossdomain_v1")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="crossdomain_v2",
    title="Cross-domain dual network V2: gates between the encoders",
    model=Model("cross_domain", {"version": "v2"}),
)

SMALL = small("crossdomain_v1")

VARIANTS = {
    "joint": {"model.joint": True},
    "literal": {"model.literal": True, "model.joint": True},
}
