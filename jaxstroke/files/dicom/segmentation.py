"""A mask as a DICOM segmentation: on its series' frame of reference, with a reference to the image of each slice."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxstroke.files.atomic import whole_file
from jaxstroke.files.dicom.instances import pydicom_for
from jaxstroke.files.dicom.volumes import Volume

NOTICE = "Research use only, not a medical device"
_LONGEST = 64  # of a text in these fields
# What the standard wants to be there, if need be empty, and files that were made anonymous lack.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


def write(path: Path, mask: np.ndarray, volume: Volume, *, label: str, network: str, version: str) -> None:
    """Writes a (X, Y, Z) mask of the volume's shape, atomically; slices without lesion have no frame.

    The volume's files must name a frame of reference.

    Args:
      label: of its one segment, such as "lesion".
      network, version: what made it.
    """
    pydicom = pydicom_for(path)
    import highdicom as hd
    from pydicom.sr.codedict import codes

    first = volume.first.frame
    sources = [_source(pydicom, one) for one in volume.files]
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=label[:_LONGEST],
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=hd.sr.CodedConcept("55641003", "SCT", "Infarct"),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=network[:_LONGEST], family=codes.DCM.ArtificialIntelligence, version=version, source="jaxstroke"
        ),
    )
    step_mm = float(np.linalg.norm(volume.affine[:3, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=np.ascontiguousarray(mask.transpose(2, 1, 0), np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[segment],
            series_instance_uid=hd.UID(),
            series_number=volume.first.instance.number + 1000,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="jaxstroke",
            manufacturer_model_name=network[:_LONGEST],
            software_versions=version,
            device_serial_number="none",
            content_description=NOTICE,
            content_label=_code_string(label),
            series_description=f"{label}: {NOTICE}"[:_LONGEST],
            pixel_measures=hd.PixelMeasuresSequence(
                pixel_spacing=first.pixel_mm, slice_thickness=step_mm, spacing_between_slices=step_mm
            ),
            plane_orientation=hd.PlaneOrientationSequence("PATIENT", first.axes),
            plane_positions=[hd.PlanePositionSequence("PATIENT", one.frame.position) for one in volume.slices],
            omit_empty_frames=bool(mask.any()),
        )
    content = io.BytesIO()
    written.save_as(content, enforce_file_format=True)
    with whole_file(path) as file:
        file.write(content.getvalue())


def _source(pydicom: Any, path: Path) -> Any:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")
    return header


def _code_string(label: str) -> str:
    """Capitals, digits, blanks and underlines, at most 16.

    >>> _code_string("ADC/R1")
    'ADC_R1'
    """
    return "".join(one if one.isascii() and one.isalnum() else "_" for one in label.upper())[:16]
