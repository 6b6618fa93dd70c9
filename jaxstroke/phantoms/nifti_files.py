"""NIfTI files, byte for byte the same for the same study."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np

_SLOPE_AT = 112  # byte of scl_slope, before scl_inter, in a NIfTI-1 header


def write(
    path: Path,
    array: np.ndarray,
    affine: np.ndarray,
    *,
    sform_identity: bool = False,
    orientation: str = "",
    scale: tuple[float, float] | None = None,
) -> None:
    """Writes (D, H, W) or (T, D, H, W) in the file's own order (X, Y, Z[, T]).

    With `sform_identity` the header says 1 mm and no rotation in its sform while pixdim holds the true spacing,
    as in the ISLES 2018 release.  `orientation` ("PSR") is the order in which voxels are stored; `scale` the slope and
    the intercept that the header gives for the stored numbers.
    """
    order = (3, 2, 1, 0) if array.ndim == 4 else (2, 1, 0)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    image = nibabel.Nifti1Image(array.transpose(order), None, dtype=array.dtype)  # pyright: ignore[reportArgumentType]
    if sform_identity:
        image.set_sform(np.eye(4), code=1, update_affine=False)
        image.set_qform(None, code=0)
    else:
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
    image.header.set_zooms((*spacing, 1.0)[: array.ndim])
    image.header.set_xyzt_units("mm", "sec")
    if orientation:
        stored = nibabel.orientations.io_orientation(affine)
        chosen = nibabel.orientations.axcodes2ornt(tuple(orientation))
        image = image.as_reoriented(nibabel.orientations.ornt_transform(stored, chosen))  # pyright: ignore
    path.parent.mkdir(parents=True, exist_ok=True)
    data = image.to_bytes()
    if scale is not None:
        data = data[:_SLOPE_AT] + struct.pack("<2f", *scale) + data[_SLOPE_AT + 8 :]
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=1, mtime=0)
    path.write_bytes(data)
