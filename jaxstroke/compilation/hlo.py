"""Reads the text of a compiled program: its computations, how often each runs, the bytes that an instruction makes.

The compiler's own cost analysis counts the body of a loop once, however often it runs.  So the text is read: a loop's
length is taken from the compiler's note (`known_trip_count`), or from the comparison that ends the loop, which for the
loops that JAX writes counts up from 0 by 1.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]+[0-9]*[a-z0-9]*)\[([0-9,<=? ]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")  # a layout's memory space; 0, which is not written, is the main memory


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`%name = shape opcode(operands), rest`; `root` marks what its computation returns."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool = False

    def called(self) -> list[tuple[str, str]]:
        """The computations that it names, each with its part: body, condition, calls ..."""
        branches = [("branch", name) for found in _BRANCHES.findall(self.rest) for name in _names(found)]
        return [*_CALLED.findall(self.rest), *branches]


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a module by name, and the name of the one it begins with."""

    computations: dict[str, tuple[Instruction, ...]]
    entry: str

    def runs(self, *, inside_fusions: bool = True) -> tuple[dict[str, int], int]:
        """How often each computation runs in one call, and of how many loops the length is not known (taken as 1)."""
        times: dict[str, int] = {}
        unknown = 0

        def visit(name: str, count: int) -> None:
            nonlocal unknown
            times[name] = times.get(name, 0) + count
            for instruction in self.computations.get(name, ()):
                length = 1
                if instruction.opcode == "while":
                    found = self.trips(instruction)
                    length, unknown = found or 1, unknown + (found is None)
                for part, called in instruction.called():
                    # What `to_apply` of a reduction names runs for every element; it is part of the reduction.
                    if part == "to_apply" and instruction.opcode != "call":
                        continue
                    if instruction.opcode == "fusion" and not inside_fusions:
                        continue
                    visit(called, count * length)

        visit(self.entry, 1)
        return times, unknown

    def trips(self, loop: Instruction) -> int | None:
        """How often a `while` runs its body; None where the text does not say."""
        noted = _TRIPS.search(loop.rest)
        if noted:
            return int(noted.group(1))
        condition = dict(loop.called()).get("condition", "")
        body = {one.name: one for one in self.computations.get(condition, ())}
        end = next((one for one in body.values() if one.root), None)
        if end is not None and end.opcode == "fusion":  # the comparison itself may be wrapped in a fusion
            return self._fused_bound(end, body)
        if end is None or end.opcode != "compare" or "direction=LT" not in end.rest:
            return None
        return _constant(body.get(end.operands[1]))

    def _fused_bound(self, end: Instruction, body: dict[str, Instruction]) -> int | None:
        inner = self.computations.get(dict(end.called()).get("calls", ""), ())
        if not any(one.root and one.opcode == "compare" and "direction=LT" in one.rest for one in inner):
            return None
        bounds = [_constant(one) for one in (*inner, *(body[name] for name in end.operands if name in body))]
        known = [bound for bound in bounds if bound is not None]
        return known[0] if len(known) == 1 else None


def parse(text: str) -> Program:
    """Reads the text that `compiled.as_text()` gives."""
    computations: dict[str, tuple[Instruction, ...]] = {}
    entry, name, lines = "", "", []
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = line.removeprefix("ENTRY ").split("(")[0].strip().lstrip("%")
            entry, lines = (name if line.startswith("ENTRY ") else entry), []
        elif line.startswith("}"):
            computations[name] = tuple(lines)
        elif name:
            found = instruction(line)
            lines += [found] if found else []
    return Program(computations, entry)


def instruction(line: str) -> Instruction | None:
    """Reads one line of a computation; None for one that is no instruction."""
    left, sign, right = line.strip().partition(" = ")
    if not sign or not left.startswith(("%", "ROOT ")):
        return None
    shape, after = _shape_and_rest(re.sub(r"/\*.*?\*/", "", right))
    opcode, opened, after = after.partition("(")
    if not opened:
        return None
    end = _closing("(" + after) - 1
    operands = tuple(_operand(one) for one in _split(after[:end]))
    name = left.removeprefix("ROOT ").lstrip("%")
    return Instruction(name, shape, opcode.strip(), operands, after[end + 1 :], left.startswith("ROOT "))


def bytes_of(shape: str, *, main_memory_only: bool = False) -> int:
    """The bytes of a shape, an array's or the sum of a tuple's; of those in the main memory alone, if so wanted.

    >>> bytes_of("(f32[8,128]{1,0:T(8,128)}, bf16[512]{0})")
    5120
    """
    total = 0.0
    for kind, dimensions, layout in _ARRAY.findall(shape):
        if not (main_memory_only and layout and _ON_CHIP.search(layout)):
            lengths = [int(one.strip(" <=?") or 0) for one in dimensions.split(",")] if dimensions else []
            total += math.prod(lengths) * _bits(kind) / 8
    return math.ceil(total)


def parts(shape: str) -> list[str]:
    """The shapes in a tuple, or the one shape that it is."""
    return list(_split(shape[1:-1])) if shape.startswith("(") else [shape]


def _bits(kind: str) -> int:
    if kind in _BITS:
        return _BITS[kind]
    found = re.search(r"\d+", kind)  # f32, s8, u4, c64, f8e4m3fn
    return int(found.group()) if found else 0


def _constant(found: Instruction | None) -> int | None:
    value = found.operands[0] if found is not None and found.opcode == "constant" and found.operands else ""
    return int(value) if re.fullmatch(r"\d+", value) else None


def _shape_and_rest(text: str) -> tuple[str, str]:
    if text.startswith("("):
        end = _closing(text) + 1
        return text[:end], text[end:].strip()
    shape, _, rest = text.partition(" ")
    return shape, rest


def _closing(text: str) -> int:
    """Where the bracket that the text begins with is closed."""
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0:
            return position
    return len(text) - 1


def _split(text: str) -> Iterator[str]:
    """Cuts at the commas that stand in no bracket."""
    depth, begin = 0, 0
    for position, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            yield text[begin:position].strip()
            begin = position + 1
    if text[begin:].strip():
        yield text[begin:].strip()


def _operand(text: str) -> str:
    """The name of an operand, which some compilers write with its shape before it."""
    return text.rsplit(" ", 1)[-1].lstrip("%")


def _names(text: str) -> list[str]:
    return [one.strip().lstrip("%") for one in text.split(",") if one.strip()]
