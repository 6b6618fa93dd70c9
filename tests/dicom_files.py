"""Small DICOM files for the tests, written by pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR, CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4.1"
STUDY, FRAME_OF_REFERENCE = generate_uid(entropy_srcs=["study"]), generate_uid(entropy_srcs=["frame"])
TO_LPS = np.diag([-1.0, -1.0, 1.0])


def uid(*words: object) -> str:
    return generate_uid(entropy_srcs=[str(word) for word in words])


def write_series(
    folder: Path,
    volume: np.ndarray,
    affine: np.ndarray,
    *,
    number: int,
    description: str,
    names: Sequence[str] | None = None,
    series: str = "",
    **fields: object,
) -> list[Path]:
    """(X, Y, Z) whole numbers at a R-A-S affine as one file a slice; `fields` are set by keyword in each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(volume.shape[2]):
        data = plain(number=number, description=description, series=series or uid(folder.name, number), fields=fields)
        data.SOPInstanceUID = uid(folder, number, index, sorted(fields.items()))
        data.InstanceNumber = index + 1
        data.ImageOrientationPatient, data.PixelSpacing, step = geometry(affine)
        data.ImagePositionPatient = position(affine, index)
        data.SliceThickness = step
        paths.append(folder / (names[index] if names else f"{number}_{description}_{index}.dcm"))
        save(data, volume[:, :, index].T, paths[-1])
    return paths


def plain(*, number: int, description: str, series: str, fields: dict) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.Modality = MR, "MR"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = STUDY, series, FRAME_OF_REFERENCE
    data.SeriesNumber, data.SeriesDescription = number, description
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "p1", "Phantom^A", "", "O"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20260101", "101010", "1", ""
    data.ReferringPhysicianName, data.Manufacturer = "", "none"
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    for word, value in fields.items():
        setattr(data, word, value)
    return data


def save(data: Dataset, pixels: np.ndarray, path: Path) -> None:
    """`pixels`: (rows, columns) or (frames, rows, columns)."""
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    signed = pixels.dtype.kind == "i"
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored = data.get("BitsStored", data.BitsAllocated)
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(signed)
    data.PixelData = pixels.tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def geometry(affine: np.ndarray) -> tuple[list[float], list[float], float]:
    """ImageOrientationPatient, PixelSpacing and the step between slices of a R-A-S affine."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    axes = TO_LPS @ affine[:3, :3] / sizes
    return [*map(float, axes[:, 0]), *map(float, axes[:, 1])], [float(sizes[1]), float(sizes[0])], float(sizes[2])


def position(affine: np.ndarray, index: int) -> list[float]:
    return [round(float(one), 6) for one in TO_LPS @ (affine @ (0, 0, index, 1))[:3]]


def write_enhanced(
    path: Path, volumes: Sequence[tuple[float, np.ndarray]], affine: np.ndarray, *, description: str, scale=(1.0, 0.0)
) -> None:
    """One enhanced MR file with a volume for each b-value, its frames in an order that is not that of their places."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = plain(number=3, description=description, series=uid(path), fields={"SOPClassUID": ENHANCED_MR})
    data.SOPInstanceUID, data.InstanceNumber = uid(path, "file"), 1
    axes, pixel, step = geometry(affine)
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([_item(PixelSpacing=pixel, SliceThickness=step, SpacingBetweenSlices=step)])
    shared.PlaneOrientationSequence = Items([_item(ImageOrientationPatient=axes)])
    values = _item(RescaleSlope=scale[0], RescaleIntercept=scale[1], RescaleType="US")
    shared.PixelValueTransformationSequence = Items([values])
    data.SharedFunctionalGroupsSequence = Items([shared])
    frames, groups = [], []
    depth = volumes[0][1].shape[2]
    for index in np.random.default_rng(0).permutation(depth):
        for b, volume in volumes:
            group = Dataset()
            group.PlanePositionSequence = Items([_item(ImagePositionPatient=position(affine, int(index)))])
            directionality = "ISOTROPIC" if b else "NONE"
            group.MRDiffusionSequence = Items([_item(DiffusionBValue=b, DiffusionDirectionality=directionality)])
            kind = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
            group.MRImageFrameTypeSequence = Items([_item(FrameType=kind)])
            content = _item(StackID="1", InStackPositionNumber=int(index) + 1, DimensionIndexValues=[int(index) + 1])
            group.FrameContentSequence = Items([content])
            groups.append(group)
            frames.append(volume[:, :, index].T)
    data.NumberOfFrames = len(frames)
    data.PerFrameFunctionalGroupsSequence = Items(groups)
    save(data, np.stack(frames), path)


def _item(**fields: object) -> Dataset:
    item = Dataset()
    for word, value in fields.items():
        setattr(item, word, value)
    return item
