"""DICOM files: what each says of itself, the volumes that their frames make, and masks written as segmentations."""
