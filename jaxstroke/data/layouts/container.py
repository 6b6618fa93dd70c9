"""The input of a challenge's container: a folder for each image, `images/SLUG/*.mha`, one study at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jaxstroke.data.case import Case
from jaxstroke.errors import UserError

_ENDINGS = (".mha", ".nii.gz", ".nii")


def study_of_slugs(root: Path, layout: str, slugs: Mapping[str, str]) -> Case | None:
    """The study in `root` (or `root/images`), named after its first image; None where no such folder holds a file."""
    base = root / "images" if (root / "images").is_dir() else root
    images: dict[str, Path] = {}
    for word, slug in slugs.items():
        files = [path for path in sorted((base / slug).glob("*")) if path.name.endswith(_ENDINGS)]
        if len(files) > 1:
            raise UserError(f"{base / slug}: it has {len(files)} images; a container is given one study at a time")
        if files:
            images[word] = files[0]
    if not images:
        return None
    name = next(iter(images.values())).name
    stem = next(name[: -len(ending)] for ending in _ENDINGS if name.endswith(ending))
    return Case(stem, stem, images, {}, layout)
