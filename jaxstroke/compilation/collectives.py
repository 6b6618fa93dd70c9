"""What a compiled program sends between chips: each collective, its bytes, and how often it runs."""

from __future__ import annotations

import dataclasses
import math
import re

from jaxstroke.compilation import hlo

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
      kind: one of `KINDS`.
      payload_bytes: of the whole array that it works on: what an all-reduce gives, what an all-gather has gathered,
        what a reduce-scatter is given.
      group: the number of chips that take part together.
      times: how often one call of the program runs it.
    """

    kind: str
    payload_bytes: int
    group: int
    times: int = 1

    @property
    def sent_bytes(self) -> float:
        """What each chip sends over its links in one call, if the collective goes round a ring of n chips.

        all-reduce 2 (n - 1) / n of the payload; all-gather, reduce-scatter and all-to-all (n - 1) / n; others all.
        """
        share = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}
        return self.times * self.payload_bytes * factor.get(self.kind, share)


def find(program: hlo.Program, chips: int) -> list[Collective]:
    """Every collective between chips; of an asynchronous one the start counts and the end does not."""
    times, _ = program.runs()
    found = []
    for name, count in times.items():
        for one in program.computations.get(name, ()):
            collective = read(one, chips)
            if collective is not None:
                found.append(dataclasses.replace(collective, times=count))
    return found


def read(one: hlo.Instruction, chips: int) -> Collective | None:
    """Reads an instruction as a collective; None if it is none, if it is the end of one, or if nothing is sent."""
    kind, start = one.opcode.removesuffix("-start"), one.opcode.endswith("-start")
    if kind not in KINDS:
        return None
    group = _group(one.rest, chips) if kind != "collective-permute" else chips
    if group < 2:
        return None
    payload = hlo.bytes_of(_result(one.shape) if start and kind != "all-reduce" else one.shape)
    return Collective(kind, payload * group if kind == "reduce-scatter" else payload, group)


def _result(shape: str) -> str:
    """What a start will give: it returns (operands, results, and what the end needs to know)."""
    parts = hlo.parts(shape)
    return parts[1] if len(parts) > 1 else shape


def _group(rest: str, chips: int) -> int:
    """The number of chips in a group: `{{0,1},{2,3}}`, `[2,4]<=[8]`, `mesh['a'=2,'b'=4] {'b'}`, or all of them."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", rest)
    if listed:
        return len(listed.group(1).split(","))
    counted = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest)
    if counted:
        return int(counted.group(2))
    named = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", rest)
    if named:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", named.group(1)))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", named.group(2)))
    return chips
