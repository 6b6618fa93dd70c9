"""The same few validation slices, drawn after every validation from what it computes anyway: nothing is asked anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxstroke.data.cache.format import Cache
from jaxstroke.pictures import strip
from jaxstroke.pictures.strip import Plane

MOST_SLICES = 4


def chosen(cache: Cache, studies: Sequence[str]) -> list[tuple[str, int]]:
    """Study and slice: of each of the first studies with a lesion the slice with most of it, as the cache's index says.

    Of fewer studies each gives more; where none has a lesion, middle slices.
    """
    found = []
    for rank in range(MOST_SLICES):
        for name in studies:
            pixels = np.asarray(cache.study(name).lesion_pixels)
            order = np.argsort(-pixels, kind="stable")
            if rank < len(order) and pixels[order[rank]] > 0:
                found.append((name, int(order[rank])))
    middles = [(name, cache.study(name).slices // 2) for name in studies]
    return (found or middles)[:MOST_SLICES]


class Strip:
    """`look` is shown what each study was answered with, and keeps the chosen slices; `grow` adds their column."""

    def __init__(self, folder: Path, cache: Cache, studies: Sequence[str], *, phantom: bool) -> None:
        self._path, self._phantom = folder / "strip.png", phantom
        self._cache = cache
        self._chosen = chosen(cache, studies)
        self._planes: list[Plane] = []
        self._answers: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}

    def look(self, study: str, mask: np.ndarray, probabilities: np.ndarray) -> None:
        """(D, H, W) each, of the first target."""
        for name, index in self._chosen:
            if name == study:
                self._answers[name, index] = mask[index], probabilities[index]

    def grow(self, epochs: Sequence[int]) -> None:
        """`epochs` are all that were validated, the last of which was looked at."""
        if not self._chosen:
            return
        self._planes = self._planes or [self._plane(*one) for one in self._chosen]
        answers = [self._answers[one] for one in self._chosen]
        strip.grow(self._path, self._planes, answers, epochs, phantom=self._phantom)

    def _plane(self, study: str, index: int) -> Plane:
        image = self._cache.slices(study, "images", index, index + 1)[0, ..., -1]
        reference = self._cache.slices(study, "masks", index, index + 1)[0, ..., 0] > 0
        return Plane(study, index, self._cache.study(study).slices, image, reference)
