"""What a study is, before anything is read: which files it has, and whose they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Case:
    """One study on disk.

    Attributes:
      study: its name, unique in its data set; predictions are named after it.
      patient: studies of one patient bear the same word, and never fall on both sides of a split.
      images: file by modality word ("CT", "CBF", "Tmax", "CTP", "DWI", "ADC", "FLAIR", ...).
      masks: file by target word ("lesion", or "ADC/R1" for what reader R1 drew on ADC); empty where not annotated.
      layout: the word of the data set's layout, which knows how its files are to be read.
      fault: why its folder could not be looked into, a plain line; whoever reads the study says it.
      centre: the hospital or site, where the data set tells it; splits may go by it.
      facts: what else its tables tell, by word ("days_post_stroke").
    """

    study: str
    patient: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    layout: str
    fault: str = ""
    centre: str = ""
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
