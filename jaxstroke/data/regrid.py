"""An image of the same scan on another grid: looked up where the study's voxels lie, by the files' own coordinates."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def regrid(values: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int], onto: np.ndarray) -> np.ndarray:
    """(D, H, W) values at `affine @ (d, h, w, 1)` mm, linearly at the voxels of another grid; 0 beyond their field."""
    if values.shape == shape and np.allclose(affine, onto, rtol=0, atol=1e-3):
        return values
    # A voxel that rounding puts a hair outside keeps its value: "constant" would give 0 there.
    to_values = np.linalg.inv(affine) @ onto
    turn, offset = to_values[:3, :3], to_values[:3, 3]
    return ndimage.affine_transform(  # pyright: ignore[reportCallIssue]
        values,
        turn,
        offset,  # pyright: ignore[reportArgumentType]
        output_shape=shape,
        order=1,
        mode="grid-constant",
        output=np.float32,
    )
