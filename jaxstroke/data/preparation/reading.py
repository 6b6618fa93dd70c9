"""Reading a study with what an experiment wants done to its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxstroke import console
from jaxstroke.data.case import Case
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.preparation import steps
from jaxstroke.data.prepare import head_of
from jaxstroke.data.study import Study, read_alone, read_study
from jaxstroke.experiment import Preparation


def read_with(
    preparation: Preparation,
    case: Case,
    images: Sequence[str],
    masks: Sequence[str] = (),
    *,
    allow_missing: bool = False,
) -> Study:
    """`read_study`, then the steps that were asked for; what each did stands in the study's `prepared`."""
    apart = [word for word in preparation.register if word in images]
    study = read_study(case, [word for word in images if word not in apart], masks, allow_missing=allow_missing)
    if not preparation.any:
        return study
    layout, place = find_layout(case.layout), study.grid.voxels_to_mm
    arrays, told = dict(study.images), []
    gone = [word for word in apart if word not in case.images]
    if gone and not allow_missing:
        raise case.without("image", gone[0], case.images)
    for word in (word for word in apart if word not in gone):
        moving, moving_to_mm = read_alone(case, word)
        other = preparation.register[word]
        if other not in study.images:
            raise case.without("image", other, study.images)
        with steps.named("register", f"{word} of study {case.study}"):
            arrays[word], line = steps.onto(word, moving, moving_to_mm, other, study.images[other], place)
        told.append(line)
    arrays, more = steps.apply(
        {word: arrays[word] for word in images if word in arrays},
        preparation,
        hounsfield=layout.hounsfield,
        head_of=lambda planes: head_of(planes, layout),
        spacing_mm=study.spacing_mm,
        voxels_to_mm=place,
    )
    odd = tuple(f"study {case.study}: it has no image {word}; the network sees 0 there" for word in gone)
    for line in odd:
        console.warn(line)
    missing = tuple(word for word in images if word in (*study.missing, *gone))
    return dataclasses.replace(
        study, images=arrays, warnings=(*study.warnings, *odd), missing=missing, prepared=(*told, *more)
    )
