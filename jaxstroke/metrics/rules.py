"""Conventions of scoring by name: how lesions are matched, and what a score is where a mask is empty.

A score has one name and, under one convention, one value; tables and files say which convention they follow.

docs/metrics.md says of each where it is written down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxstroke.errors import UserError

NAN = float("nan")
_OVERLAP = ("dice", "precision", "recall", "f1")


@dataclasses.dataclass(frozen=True)
class Rules:
    """A convention.

    Attributes:
      iou: the least intersection over union at which two lesions are one; None: any voxel in common.
      both_empty: scores that differ from the house's where both masks are empty.
      pr_area_without_lesion: whether the PR area is 1 or 0 on an empty reference, instead of undefined.
      source: where the convention is written down.
    """

    name: str
    iou: float | None
    source: str
    both_empty: Mapping[str, float] = dataclasses.field(default_factory=dict)
    pr_area_without_lesion: bool = False

    @property
    def matching(self) -> str:
        return "any voxel in common" if self.iou is None else f"one to one, IoU at least {self.iou:g}"


_PAPER = "the paper's formulas give 0 / 0 where both masks are empty, and it states no rule"

RULES: Mapping[str, Rules] = {
    rules.name: rules
    for rules in (
        Rules("isles22", None, "ISLES'22, github.com/ezequieldlrosa/isles22"),
        Rules("isles24", 0.2, "ISLES'24 since 16 December 2025, panoptica"),
        Rules("isles24_2024", 0.5, "ISLES'24 before 16 December 2025, panoptica's default"),
        Rules("isles26", 0.25, "ISLES'26", pr_area_without_lesion=True),
        Rules("mdanet", None, f"MDANet, equations 13 to 16: {_PAPER}", dict.fromkeys(_OVERLAP, NAN)),
        Rules("dme_net", None, f"DME-Net, its equation of Dice: {_PAPER}", dict.fromkeys(_OVERLAP, NAN)),
        Rules("cascade", None, f"the cascade: {_PAPER}", dict.fromkeys(_OVERLAP, NAN)),
        Rules("cross_domain", None, "cross-domain, the authors' code", dict.fromkeys(_OVERLAP, 1.0)),
        Rules("cross_domain_empty_0", None, "cross-domain, the authors' notebook", dict.fromkeys(_OVERLAP, 0.0)),
    )
}
DEFAULT = RULES["isles22"]


def find_rules(name: str) -> Rules:
    if name not in RULES:
        raise UserError(f"rules {name}: there are none of that name; there are {', '.join(RULES)}")
    return RULES[name]


def told() -> list[str]:
    """A line for each convention."""
    width = max(map(len, RULES))
    return [f"{rules.name:{width}}  {rules.matching}; {rules.source}" for rules in RULES.values()]
