"""What one example is: the only place where the kinds are told apart.

kind      images           masks, logits    valid
slice     (H, W, C)        (H, W, K)        one flag
clip      (T, H, W, C)     (T, H, W, K)     (T,)        slices in order, taken one by one with a memory
volume    (D, H, W, C)     (D, H, W, K)     (D,)        slices together
series    (T, H, W, 2)     (H, W, K)        one flag    time points of one slice, beside its mirror image
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Word = Literal["slice", "clip", "volume", "series"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """Attributes:
    holds_slices: an example is `data.depth` slices, each with a mask and an answer; not all need be there.
    in_order: the network takes them one by one and remembers those before.
    holds_times: an example is `data.depth` time points of one slice, of which one answer is made.
    """

    holds_slices: bool = False
    in_order: bool = False
    holds_times: bool = False

    def slices(self, depth: int) -> int:
        """How many slices an example covers."""
        return depth if self.holds_slices else 1

    def images_lead(self, depth: int) -> tuple[int, ...]:
        """The axes of an example's images before height and width."""
        return (depth,) if self.holds_slices or self.holds_times else ()

    def slices_lead(self, depth: int) -> tuple[int, ...]:
        """The axes of an example's masks and logits before height and width: all that its `valid` has."""
        return (depth,) if self.holds_slices else ()


_KINDS: dict[Word, Kind] = {
    "slice": Kind(),
    "clip": Kind(holds_slices=True, in_order=True),
    "volume": Kind(holds_slices=True),
    "series": Kind(holds_times=True),
}


def kind(word: Word) -> Kind:
    return _KINDS[word]
