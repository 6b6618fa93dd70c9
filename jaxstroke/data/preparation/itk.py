"""Arrays with their place in the patient as ITK's images.

ITK is given one thread a filter: its result then does not hang on how many cores a machine has, and several studies
go side by side instead.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from jaxstroke.errors import UserError


def simple_itk() -> Any:
    """SimpleITK, or the line that says what to install."""
    if importlib.util.find_spec("SimpleITK") is None:
        raise UserError("data.preparation: SimpleITK is not installed; pip install 'jaxstroke[prep]' brings it")
    import SimpleITK

    # A filter's own number does not reach the metric inside it, whose sums then differ in their last digits.
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return SimpleITK


def image_of(values: np.ndarray, voxels_to_mm: np.ndarray) -> Any:
    """(D, H, W) values whose voxel (d, h, w) lies at `voxels_to_mm`."""
    image = simple_itk().GetImageFromArray(np.ascontiguousarray(values, np.float32))
    axes = voxels_to_mm[:3, 2::-1]  # ITK counts columns first
    spacing = np.linalg.norm(axes, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((axes / spacing).ravel().tolist())
    image.SetOrigin(voxels_to_mm[:3, 3].tolist())
    return image
