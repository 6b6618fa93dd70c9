"""What an evaluation saw of one study: its images, what readers drew, and what each system answered."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxstroke.data.study import Study


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """Every array is (D, H, W) on the study's own grid.

    Attributes:
      study: its images, and as its masks the reference of each annotation.
      predictions: by system and annotation, the mask that was judged against it.
      probabilities: by annotation, those of the first system that has any.
      maps: by path, what that system looks at: attention, gates, a synthetic map.
    """

    study: Study
    predictions: dict[str, dict[str, np.ndarray]]
    probabilities: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
