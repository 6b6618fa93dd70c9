"""What a compiled program reads from and writes to a chip's main memory, loops counted as often as they run.

Every instruction reads its operands and writes its result, once each; what the compiler has placed in on-chip memory
costs nothing, a slice costs what it cuts out, an update in place what it writes.  That is the rule of the compiler's
own cost analysis, but for two faults of that one here: it counts a loop's body once, and on-chip memory as main memory.
"""

from __future__ import annotations

from jaxstroke.compilation import hlo
from jaxstroke.compilation.hlo import Instruction, Program

Body = dict[str, Instruction]

# They move nothing themselves: they name things, or what they call is counted by itself.
_FREE = {"tuple", "get-tuple-element", "parameter", "bitcast", "constant", "iota", "while", "conditional", "call"}
_FREE |= {"after-all", "partition-id", "replica-id", "opt-barrier", "add-dependency"}
_CUTS = {"slice", "dynamic-slice", "gather"}  # they read no more than they give


def traffic_bytes(program: Program) -> int:
    """Bytes to and from the main memory of one chip in one call."""
    times, _ = program.runs(inside_fusions=False)
    total = 0
    for name, count in times.items():
        body = {one.name: one for one in program.computations.get(name, ())}
        total += count * sum(_moved(one, body, program) for one in body.values())
    return total


def _moved(one: Instruction, body: Body, program: Program) -> int:
    if one.opcode in _FREE or one.opcode.endswith("-done"):
        return 0
    if one.opcode.endswith("-start"):
        return _started(one, body)
    if one.opcode == "fusion":
        called = program.computations.get(dict(one.called()).get("calls", ""), ())
        return _fused(one, body, {inner.name: inner for inner in called})
    if one.opcode in _CUTS:
        return _cut(one, body) + _main(one.shape)
    if one.opcode == "dynamic-update-slice":
        return _updated(one, body)
    return _main(one.shape) + sum(_main(body[name].shape) for name in one.operands if name in body)


def _started(one: Instruction, body: Body) -> int:
    """An asynchronous copy or slice reads what it moves and writes it; a collective reads and writes its array."""
    parts = hlo.parts(one.shape)
    if one.opcode == "copy-start":  # (to, from, a flag)
        return sum(_main(part) for part in parts[:2])
    if one.opcode == "slice-start":  # ((from), to, a flag)
        return _cut(one, body, result=parts[1]) + _main(parts[1])
    result = one.shape if one.opcode == "all-reduce-start" or len(parts) < 2 else parts[1]
    return _main(result) + sum(_main(body[name].shape) for name in one.operands if name in body)


def _fused(one: Instruction, body: Body, inner: Body) -> int:
    """A fusion reads its operands, of some only the pieces that it cuts out, and writes its results, some in place."""
    parameters = {int(found.operands[0]): found.name for found in inner.values() if found.opcode == "parameter"}
    read = 0
    for number, name in enumerate(one.operands):
        if name in body:
            bytes_read = _main(body[name].shape)
            users = _users(parameters.get(number, ""), inner)
            if bytes_read and users and all(_only_part(user, parameter, inner) for user, parameter in users):
                bytes_read = min(bytes_read, sum(_part(user, inner) for user, _ in users))
            read += bytes_read
    root = next((found for found in inner.values() if found.root), None)
    return read + _written(one.shape, root, inner)


def _users(parameter: str, inner: Body, *, through: tuple[str, ...] = ("bitcast",)) -> list[tuple[Instruction, str]]:
    """The instructions that use a value, seen through what only renames it, each with the name it knows it by."""
    users = []
    for found in inner.values():
        if parameter in found.operands:
            users += _users(found.name, inner) if found.opcode in through else [(found, parameter)]
    return users


def _only_part(user: Instruction, name: str, inner: Body) -> bool:
    """Whether a user touches a part of a value alone: it cuts out of it, or updates it in place."""
    return user.opcode in (*_CUTS, "dynamic-update-slice") and user.operands[0] == name


def _part(user: Instruction, inner: Body) -> int:
    """What is read of a value that a user touches a part of; nothing, where the part is only written."""
    return hlo.bytes_of(user.shape) if user.opcode in _CUTS else 0


def _written(shape: str, root: Instruction | None, inner: Body) -> int:
    if root is not None and root.opcode == "tuple":
        parts = hlo.parts(shape)
        if len(parts) == len(root.operands):
            return sum(_written(part, inner.get(name), inner) for part, name in zip(parts, root.operands, strict=True))
    while root is not None and root.opcode == "bitcast":
        root = inner.get(root.operands[0])
    if root is not None and root.opcode == "dynamic-update-slice" and root.operands[1] in inner:
        return min(_main(shape), hlo.bytes_of(inner[root.operands[1]].shape))
    return _main(shape)


def _cut(one: Instruction, body: Body, *, result: str | None = None) -> int:
    """What a slice reads: as much as it gives, if it cuts it out of the main memory."""
    source = body.get(one.operands[0])
    in_main = source is None or _main(source.shape) > 0
    return hlo.bytes_of(result or one.shape) if in_main else 0


def _updated(one: Instruction, body: Body) -> int:
    """An update in place reads what is new and writes it."""
    new = body.get(one.operands[1])
    if new is None:
        return _main(one.shape)
    return _main(new.shape) + (hlo.bytes_of(new.shape) if _main(one.shape) else 0)


def _main(shape: str) -> int:
    return hlo.bytes_of(shape, main_memory_only=True)
