"""What an experiment is (`fields`), how it is found (`catalogue`), overridden (`overrides`) and kept (`as_json`)."""

from jaxstroke.experiment.fields import (
    Augment,
    Cascade,
    Data,
    Evaluation,
    Experiment,
    Loss,
    Model,
    Optimiser,
    Parallel,
    Preparation,
    Schedule,
    Training,
    Words,
)

__all__ = [
    "Augment",
    "Cascade",
    "Data",
    "Evaluation",
    "Experiment",
    "Loss",
    "Model",
    "Optimiser",
    "Parallel",
    "Preparation",
    "Schedule",
    "Training",
    "Words",
]
