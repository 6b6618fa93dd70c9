"""Studies as ISLES 2024 lies on disk: CT, CT angiography and perfusion maps on admission, the infarct on later MR.

The patients are those of the ISLES 2018 phantom, whole heads on a smaller plane than the release's 512 x 512.  Kept
quirks: tilted grids, uint16 masks of which one in four is stored as 65535 times a slope that makes a little less than
1, older masks without `space-ncct` in their names, one that lies there a second time and unpacked, numbers with gaps,
and two centres.  The table's column `Centre` is ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxstroke.phantoms import isles2018, nifti_files

_ALMOST_ONE = (1.5259021893e-5, 0.0)  # times 65535
_CENTRES = ("centre-1", "centre-2")
_MAP_UNITS = {"CBF": 13.0, "CBV": 18.0}  # of the ISLES 2018 phantom, back to mL/100 g
_SIGNAL = {"brain": 400.0, "lesion": 1.84, "ADC": 0.80, "restricted": 0.63}


def identity(index: int) -> tuple[str, str]:
    """Numbers with gaps, as the release has them."""
    name = f"sub-stroke{index + 1 + index // 4:04d}"
    return name, name


def centre(index: int) -> str:
    return _CENTRES[index % 3 == 2]


def write_study(folder: Path, seed: int, index: int, *, with_ctp: bool) -> None:
    name, _ = identity(index)
    study = isles2018.make_study(seed, 3 * index + 2, with_ctp=with_ctp)  # every third case is a whole head
    rng = np.random.default_rng([seed, index, 24])
    raw, derived = (folder / "train" / kind / name for kind in ("raw_data", "derivatives"))
    ct, affine = study["CT"]
    nifti_files.write(raw / "ses-01" / f"{name}_ses-01_ncct.nii.gz", ct.astype(np.int16), affine)
    admission, stem = derived / "ses-01", f"{name}_ses-01_space-ncct"
    vessels = 18.0 * np.clip(study["CT_CBV"][0] / _MAP_UNITS["CBV"] - 2.5, 0, 4)
    nifti_files.write(admission / f"{stem}_cta.nii.gz", (ct + vessels).astype(np.int16), affine)
    if with_ctp:
        nifti_files.write(admission / f"{stem}_ctp.nii.gz", np.rint(study["CT_4DPWI"][0]).astype(np.int16), affine)
    for word in ("Tmax", "MTT", "CBF", "CBV"):
        values = study[f"CT_{word}"][0] / np.float32(_MAP_UNITS.get(word, 1.0))
        nifti_files.write(
            admission / "perfusion-maps" / f"{stem}_{word.lower()}.nii.gz", values.astype(np.float32), affine
        )
    lesion = study["OT"][0]
    _write_follow_up(rng, derived / "ses-02", name, lesion, study["CT_MTT"][0] > 0, affine)
    _write_mask(derived / "ses-02", name, index, lesion, affine)
    table = folder / "train" / "phenotype" / name / "ses-01" / f"{name}_ses-01_demographic_baseline.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    age = int(np.clip(rng.normal(72, 13), 18, 99))
    table.write_text(f"Age,Sex,Centre\n{age},{rng.choice(('M', 'F'))},{centre(index)}\n", encoding="utf-8")


def finish(folder: Path, seed: int, cases: int) -> None:
    """Its tables lie beside each subject."""


def _write_follow_up(
    rng: np.random.Generator, session: Path, name: str, lesion: np.ndarray, brain: np.ndarray, affine: np.ndarray
) -> None:
    """DWI and ADC days later: the infarct is bright on one and dark on the other."""
    noise = rng.standard_normal((2, *lesion.shape), dtype=np.float32) * 0.06
    dwi = _SIGNAL["brain"] * (1 + (_SIGNAL["lesion"] - 1) * lesion + noise[0]) * brain
    adc = _SIGNAL["ADC"] * (1 + (_SIGNAL["restricted"] - 1) * lesion + noise[1]) * brain
    for word, values in (("dwi", dwi), ("adc", adc)):
        nifti_files.write(session / f"{name}_ses-02_space-ncct_{word}.nii.gz", values.astype(np.float32), affine)


def _write_mask(session: Path, name: str, index: int, lesion: np.ndarray, affine: np.ndarray) -> None:
    older = index % 5 == 2
    stem = f"{name}_ses-02_lesion-msk" if older else f"{name}_ses-02_space-ncct_lesion-msk"
    almost = index % 4 == 1
    stored = lesion.astype(np.uint16) * np.uint16(65535 if almost else 1)
    scale = _ALMOST_ONE if almost else None
    nifti_files.write(session / f"{stem}.nii.gz", stored, affine, scale=scale)
    if index == 3:  # the stray file
        nifti_files.write(session / f"{stem}.nii", stored, affine, scale=scale)
