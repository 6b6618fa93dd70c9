"""N4: the slow change of brightness that a coil leaves on an MR image is estimated and divided out.

Tustison et al., IEEE Transactions on Medical Imaging 29, 1310 (2010).
"""

from __future__ import annotations

import numpy as np

from jaxstroke.data.preparation.itk import image_of, simple_itk
from jaxstroke.errors import UserError

_COARSEST = 32  # voxels along each axis that the field is estimated on, where there are as many
_ITERATIONS = (50, 50, 50)


def correct(values: np.ndarray, head: np.ndarray, voxels_to_mm: np.ndarray) -> tuple[np.ndarray, str]:
    """(D, H, W) values without the field that N4 finds in the head (its mean logarithm is 0), and what that was."""
    sitk = simple_itk()
    inside = head & (values > 0)
    if not inside.any():
        raise UserError("no voxel of the head is above 0, so there is no brightness to correct")
    image = image_of(values, voxels_to_mm)
    factors = [max(1, round(side / _COARSEST)) for side in image.GetSize()]
    mask = sitk.Cast(image_of(inside, voxels_to_mm) > 0.5, sitk.sitkUInt8)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    try:
        n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
        logarithm = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
    except RuntimeError as error:
        raise UserError(f"N4 cannot estimate a field ({' '.join(str(error).split())[-120:]})") from None
    field = np.exp(logarithm - logarithm[inside].mean())
    low, high = np.percentile(field[inside], (5, 95))
    return (values / field).astype(np.float32), f"a field of {low:.2f} to {high:.2f} (5 to 95 %) divided out"
