"""What a study is, before anything is read: which files it has, and whose they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxstroke.errors import UserError


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
      untold: by modality, why it could not be told which file it is, and what to do; "" of all others.
    """

    study: str
    patient: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    layout: str
    fault: str = ""
    centre: str = ""
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    untold: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def image(self, word: str) -> Path:
        return self._file(self.images, "image", word)

    def mask(self, word: str) -> Path:
        return self._file(self.masks, "mask", word)

    def _file(self, files: Mapping[str, Path], kind: str, word: str) -> Path:
        if word not in files:
            raise self.without(kind, word, files)
        return files[word]

    def without(self, kind: str, word: str, present: Iterable[str]) -> UserError:
        """The mistake that the study does not have what is asked of it."""
        has = ", ".join(sorted(present)) or "none"
        why = (self.untold.get(word) or self.untold.get("", "")) if kind == "image" else ""
        return UserError(f"study {self.study}: it has no {kind} {word}; its {kind}s are: {has}{why and f'; {why}'}")
