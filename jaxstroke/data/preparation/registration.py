"""Rigid registration: where an image lies on another of the same head, found by their mutual information.

Coordinates of one session are nearly right, so the search begins there, unless the two fields of view are told apart
by more than their contents: then at their centres.  The transform is kept on disk, by the content of both images.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxstroke import console, files, user_cache
from jaxstroke.data.preparation.itk import image_of, simple_itk
from jaxstroke.errors import UserError

# Of the search; another one gets another number, so that transforms of the former are found again.
FORM = 1
_BINS = 32
_SAMPLES = (20_000, 60_000)  # voxels of the fixed image that are looked at, coarse to fine
_SMOOTHED_MM = (4.0, 0.5)
_STEPS = 150
_SEED = 1
_LEAST_SIDE = 4  # voxels; a flatter image has no shape to find in that direction


@dataclasses.dataclass(frozen=True)
class Registration:
    """Attributes:
    matrix: (4, 4), rows as tuples: mm in the fixed image to mm in the moving one.
    before, after: mutual information of the two, by the files' coordinates and by the matrix; more is better.
    shift_mm, degrees: by how much the matrix moves the fixed image's centre and turns about it.
    """

    matrix: tuple[tuple[float, ...], ...]
    before: float
    after: float
    shift_mm: float
    degrees: float

    def told(self) -> str:
        return (
            f"moved by {self.shift_mm:.1f} mm and {self.degrees:.1f} degrees; mutual information {self.before:.3f} "
            f"before, {self.after:.3f} after"
        )


def register(fixed: np.ndarray, fixed_to_mm: np.ndarray, moving: np.ndarray, moving_to_mm: np.ndarray) -> Registration:
    """The transform of a (D, H, W) moving image to a fixed one, kept from the last time where there was one."""
    digest = hashlib.sha256(f"{FORM}".encode())
    for part in (fixed, fixed_to_mm, moving, moving_to_mm):
        digest.update(f"{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    place = user_cache.folder() / "transforms" / f"{digest.hexdigest()[:32]}.json"
    if place.is_file():
        try:
            tree = files.read_sealed(place)
            return Registration(**{**tree, "matrix": tuple(map(tuple, tree["matrix"]))})
        except (UserError, TypeError, KeyError) as error:
            console.warn(f"{place}: it is damaged ({error}); the images are registered again")
    found = _search(fixed, fixed_to_mm, moving, moving_to_mm)
    files.write_sealed(place, dataclasses.asdict(found))
    return found


def _search(fixed: np.ndarray, fixed_to_mm: np.ndarray, moving: np.ndarray, moving_to_mm: np.ndarray) -> Registration:
    sitk = simple_itk()
    if min(*fixed.shape, *moving.shape) < _LEAST_SIDE:
        raise UserError(f"images of {fixed.shape} and {moving.shape} voxels are too flat to be registered")
    images = image_of(fixed, fixed_to_mm), image_of(moving, moving_to_mm)
    centre = _centre(fixed, fixed_to_mm)
    begun = sitk.Euler3DTransform()
    begun.SetCenter(centre.tolist())
    centred = sitk.Euler3DTransform(begun)
    centred.SetTranslation((_centre(moving, moving_to_mm) - centre).tolist())
    before = _information(sitk, images, begun)
    start = max((begun, centred), key=lambda transform: _information(sitk, images, transform))
    method = _method(sitk, fixed.size, _SAMPLES)
    method.SetShrinkFactorsPerLevel([1] * len(_SAMPLES))
    method.SetSmoothingSigmasPerLevel(_SMOOTHED_MM)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=_STEPS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    found = sitk.Euler3DTransform(start)
    method.SetInitialTransform(found, inPlace=True)
    try:
        method.Execute(*images)
    except RuntimeError as error:
        raise UserError(f"the images cannot be registered ({_line(error)}); do they show the same head?") from None
    after = _information(sitk, images, found)
    if after < before:  # what the files say is better than what was found
        found, after = begun, before
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(found.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.array(found.TransformPoint((0.0, 0.0, 0.0)))
    shift = np.linalg.norm(np.array(found.TransformPoint(centre.tolist())) - centre)
    cosine = np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)
    rows = tuple(tuple(float(one) for one in row) for row in matrix)
    return Registration(rows, before, after, float(shift), float(np.degrees(np.arccos(cosine))))


def _method(sitk: Any, voxels: int, samples: Sequence[int]) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    # ITK moves the regular samples about at random; without a seed by the clock, and never twice alike.
    method.SetMetricSamplingPercentagePerLevel([min(1.0, one / voxels) for one in samples], _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _information(sitk: Any, images: tuple[Any, Any], transform: Any) -> float:
    """Mutual information over as many voxels as the finest search looks at; 0 where the images do not meet."""
    method = _method(sitk, images[0].GetNumberOfPixels(), _SAMPLES[-1:])
    method.SetInitialTransform(transform)
    try:
        return -float(method.MetricEvaluate(*images))
    except RuntimeError:
        return 0.0


def _centre(values: np.ndarray, voxels_to_mm: np.ndarray) -> np.ndarray:
    return (voxels_to_mm @ [*((np.array(values.shape) - 1) / 2), 1.0])[:3]


def _line(error: RuntimeError) -> str:
    return " ".join(str(error).split())[-120:]
