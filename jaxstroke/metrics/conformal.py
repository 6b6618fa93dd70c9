"""An interval for a lesion's volume by split conformal prediction.

With v the predicted and g the annotated volume in mL, the residual of a study is

    r = |log((g + 1) / (v + 1))|

a factor on the volume, softened by 1 mL so that an empty mask has one too.  Of n residuals of studies that were not
trained on, q is the ceil((n + 1) level)-th smallest, and the interval of a new study is (v + 1) e^-q - 1 to
(v + 1) e^q - 1, 0 at least.  It holds the annotated volume of a share `level` of new studies or more (Vovk et al.,
2005; Lei et al., JASA 2018), where these and the n studies are exchangeable: drawn alike, none used to choose anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVEL = 0.9


def residual(volume_ml: float, reference_ml: float) -> float:
    """How far a predicted volume is from the annotated one.

    >>> residual(1.0, 3.0) == residual(3.0, 1.0) == math.log(2)
    True
    """
    return abs(math.log1p(reference_ml) - math.log1p(volume_ml))


def reach(residuals: Sequence[float], level: float) -> float:
    """q of the module's docstring; infinite where there are too few residuals for the level.

    >>> reach([0.3, 0.1, 0.2], 0.75)  # the ceil(4 x .75) = 3rd
    0.3
    >>> reach([0.3, 0.1, 0.2], 0.9)
    inf
    """
    rank = math.ceil((len(residuals) + 1) * level - 1e-9)
    return sorted(residuals)[rank - 1] if rank <= len(residuals) else math.inf


def fewest(level: float) -> int:
    """How many residuals a level takes.

    >>> fewest(0.9)
    9
    """
    return next(n for n in range(1, 10_000) if (n + 1) * level - 1e-9 <= n)


def interval_ml(volume_ml: float, q: float) -> tuple[float, float]:
    """From the least to the most, in mL."""
    return max(0.0, (volume_ml + 1) * math.exp(-q) - 1), (volume_ml + 1) * math.exp(q) - 1
