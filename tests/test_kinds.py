"""What one example is: each kind by hand."""

from __future__ import annotations

import typing

import pytest

from jaxstroke.experiment import Data, kinds
from jaxstroke.models import apply

LAYS = {  # of images and of masks, with depth 4 and size 8; a series is CTP, beside its mirror image
    "slice": ((8, 8, 1), (8, 8, 1), ()),
    "clip": ((4, 8, 8, 1), (4, 8, 8, 1), (4,)),
    "volume": ((4, 8, 8, 1), (4, 8, 8, 1), (4,)),
    "series": ((4, 8, 8, 2), (8, 8, 1), ()),
}


@pytest.mark.parametrize("word", typing.get_args(kinds.Word))
def test_the_shapes_of_an_example(word: kinds.Word) -> None:
    data = Data("isles2018", (("CTP",),), example=word, size=8, depth=4)
    assert (apply.example_shape(data), apply.mask_shape(data), apply.valid_shape(data)) == LAYS[word]
    assert data.kind.slices(4) == (4 if word in ("clip", "volume") else 1)
    assert data.kind.in_order == (word == "clip")
