"""U-Net on DWI and ADC, of which three seeds are split alike: what calibration, copies and an ensemble are worth.

Paper: none; the network is U-Net of MDANet, Table 2.
Command: python -m jaxstroke.train --exp reliability --set training.seed=0
Published: nothing; `jaxstroke tables reliability` measures it.
Everything but the split is that of `unet_isles22`.  A third of the studies is held out from every seed, and enough
validate for an interval at 90 %, which takes nine.
"""

import dataclasses

from jaxstroke.experiment.catalogue import load

BASE = load("unet_isles22")

EXPERIMENT = dataclasses.replace(
    BASE,
    name="reliability",
    title="U-Net, DWI and ADC, split alike for every seed",
    data=dataclasses.replace(BASE.data, folds=3, validation_fraction=0.35, split_seed=0),
)

SMALL = {
    "data.size": 64,
    "data.batch": 4,
    "data.phantom_cases": 72,
    "data.lesion_fraction": 0.6,
    "model.width": 8,
    "training.average": 0.99,
    "training.epochs": 5,
    "training.steps_per_epoch": 400,
}
