"""The steps of a preparation on a study's arrays, in their order: register, strip, correct."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from jaxstroke.data.preparation import bias_field, brain
from jaxstroke.data.preparation.registration import register
from jaxstroke.data.regrid import regrid
from jaxstroke.errors import UserError
from jaxstroke.experiment import Preparation

_AIR_HU = -1024.0


def onto(
    word: str, moving: np.ndarray, moving_to_mm: np.ndarray, other: str, fixed: np.ndarray, fixed_to_mm: np.ndarray
) -> tuple[np.ndarray, str]:
    """An image registered to another and brought to its grid, and the line that says so."""
    found = register(fixed, fixed_to_mm, moving, moving_to_mm)
    placed = np.linalg.inv(np.array(found.matrix)) @ moving_to_mm
    return regrid(moving, placed, fixed.shape, fixed_to_mm), f"{word} registered to {other}: {found.told()}"


def apply(
    images: dict[str, np.ndarray],
    preparation: Preparation,
    *,
    hounsfield: tuple[str, ...],
    head_of: Callable[[dict[str, np.ndarray]], np.ndarray],
    spacing_mm: tuple[float, float, float],
    voxels_to_mm: np.ndarray,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The images without skull and bias, as far as it was asked for, and a line for each thing that was done.

    An image that is missing has nothing done to it; without the one that shows the brain no skull is stripped.
    """
    images, told = dict(images), []
    word = preparation.strip_skull
    if word in images:
        with named("strip_skull", word):
            inside = brain.brain_of(images[word], spacing_mm, hounsfield=word in hounsfield)
        if inside is None:
            told.append(f"skull: {word} has none any more; left as it is")
        else:
            for one in images:
                images[one] = np.where(inside, images[one], np.float32(_AIR_HU if one in hounsfield else 0))
            volume_ml = float(inside.sum()) * float(np.prod(spacing_mm)) / 1000
            how = "by intensity" if word in hounsfield else "by Otsu's threshold"
            told.append(f"skull stripped {how} in {word}: {volume_ml:.0f} mL are kept")
    for word in (one for one in preparation.correct_bias if one in images):
        with named("correct_bias", word):
            images[word], what = bias_field.correct(images[word], head_of(images), voxels_to_mm)
        told.append(f"N4 on {word}: {what}")
    return images, told


@contextlib.contextmanager
def named(step: str, word: str) -> Iterator[None]:
    """Says of a mistake which step made it, on which image."""
    try:
        yield
    except UserError as error:
        raise UserError(f"data.preparation.{step} on {word}: {error}") from None
