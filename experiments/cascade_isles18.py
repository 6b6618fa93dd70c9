"""The whole cascade on ISLES 2018: first-stage networks make a synthetic map, the second stage takes it as an image.

Paper: Gomez et al., "Deep Cascade Cross-attentional Architecture to Segment Acute Ischemic Stroke Lesions from CTP
Sequences"; section 2.3 and figure 4.
Command: python -m jaxstroke.train --exp cascade_isles18 (both stages in turn; the same command again resumes in either)
         python -m jaxstroke.predict RUN STUDY -o OUT --intermediates synthetic (the map as NIfTI)
Published: Dice .66, precision .67 (abstract); the tables hold the first stage alone, see `cascade_stage1`.
From the paper: everything that `cascade_stage1` takes from it, and that the map comes from the first level's gate.
Ours: five first-stage networks, each mapping the fifth of the training patients that it never saw, and the mean of all
five maps elsewhere; each map is turned so that lesion is bright, and normalised as an image.  The paper does not say
that it did so, and a map of studies that the network was trained on carries their annotations into the second stage.
`in_sample` does that, with one network.  The second stage starts from new weights.
Cost: six trainings of 38.4 M parameters, 18.4 G multiply-accumulates a slice each.
"""

import dataclasses

from jaxstroke.experiment.catalogue import load, small
from jaxstroke.experiment.overrides import override

EXPERIMENT = dataclasses.replace(
    override(load("cascade_stage1"), {"data.derived": ("synthetic",), "cascade.stage1_networks": 5}),
    name="cascade_isles18",
    title="Cascade in two stages: out-of-fold synthetic maps, CT and CT perfusion maps",
)

SMALL = {**small("cascade_stage1"), "cascade.stage1_networks": 2}

VARIANTS = {"in_sample": {"cascade.stage1_networks": 1}}
