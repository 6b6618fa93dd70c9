"""The text of compiled programs: what is read out of it is held against lines and sums that are known by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxstroke.compilation import collectives, hlo, traffic

ROOT = Path(__file__).parent.parent

# As the TPU compiler writes it: the loop's length stands in the comparison that ends it.
LOOP = """HloModule m, is_scheduled=true

%sum.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%body.2 (p: (s32[], f32[128,512])) -> (s32[], f32[128,512]) {
  %p = (s32[]{:T(128)}, f32[128,512]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[128,512]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %one = s32[]{:T(128)S(6)} constant(1)
  %next = s32[]{:T(128)S(6)} add(%i, %one)
  %near = f32[128,512]{1,0:T(8,128)S(1)} negate(%x)
  %y = f32[128,512]{1,0:T(8,128)} all-reduce(%near), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%sum.1
  ROOT %out = (s32[]{:T(128)}, f32[128,512]{1,0:T(8,128)}) tuple(%next, %y)
}

%condition.3 (p: (s32[], f32[128,512])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[128,512]{1,0:T(8,128)}) parameter(0)
  %constant.4 = s32[]{:T(128)} constant(10), metadata={op_name="jit(f)/while/cond (a note)"}
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt.3 = pred[]{:T(512)} compare(%i.1, %constant.4), direction=LT
}

ENTRY %main.5 (x: f32[128,512]) -> f32[128,512] {
  %x.1 = f32[128,512]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %tuple.6 = (s32[]{:T(128)}, /*index=1*/f32[128,512]{1,0:T(8,128)}) tuple(%zero, %x.1)
  %while.9 = (s32[]{:T(128)}, f32[128,512]{1,0:T(8,128)}) while(%tuple.6), condition=%condition.3, body=%body.2
  ROOT %result = f32[128,512]{1,0:T(8,128)} get-tuple-element(%while.9), index=1
}
"""
BLOCK = 128 * 512 * 4


# --- the text of a program -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("bf16[3,5]{1,0}", 30),
        ("pred[7]{0}", 7),
        ("u4[8]{0}", 4),
        ("f8e4m3fn[16]{0}", 16),
        ("c64[2]{0}", 16),
        ("f32[0,4]{1,0}", 0),
        ("token[]", 0),
        ("(f32[8,128]{1,0:T(8,128)}, (s32[2]{0}, u32[]{:S(2)}))", 4096 + 8 + 4),
    ],
)
def test_bytes_of_a_shape(shape: str, size: int) -> None:
    assert hlo.bytes_of(shape) == size


def test_what_lies_on_the_chip_is_no_main_memory() -> None:
    shape = "(f32[8,128]{1,0:T(8,128)S(1)}, bf16[8,128]{1,0:T(8,128)(2,1)})"
    assert hlo.bytes_of(shape, main_memory_only=True) == 2048


def test_an_instruction_is_read_whatever_stands_in_its_shape() -> None:
    one = hlo.instruction(
        "  ROOT %f.2 = (f32[8,4]{1,0:T(8,128)S(1)}, /*index=1*/s32[]) fusion(%a.1, f32[8]{0} %b), kind=kLoop, "
        'calls=%inner.3, metadata={op_name="jit(f)/while (x)"}'
    )
    assert one is not None
    assert (one.name, one.opcode, one.operands, one.root) == ("f.2", "fusion", ("a.1", "b"), True)
    assert one.called() == [("calls", "inner.3")]
    assert hlo.parts(one.shape) == ["f32[8,4]{1,0:T(8,128)S(1)}", "s32[]"]


def test_a_loop_tells_its_length() -> None:
    program = hlo.parse(LOOP)
    times, unknown = program.runs()
    assert program.entry == "main.5" and unknown == 0
    assert times == {"main.5": 1, "body.2": 10, "condition.3": 10}


def test_a_noted_length_goes_before_and_an_unknown_one_is_told() -> None:
    noted = LOOP.replace("body=%body.2\n", 'body=%body.2, backend_config={"known_trip_count":{"n":"7"}}\n')
    assert hlo.parse(noted).runs()[0]["body.2"] == 7
    times, unknown = hlo.parse(LOOP.replace("direction=LT", "direction=NE")).runs()
    assert (times["body.2"], unknown) == (1, 1)


def test_traffic_counts_loops_and_leaves_out_what_stays_on_the_chip() -> None:
    # Ten times: `x` is read for `near`, which stays on the chip, and `y` is written; the counter is read to be added to
    # and to be compared, with a bound of 4 bytes and an answer of 1.
    assert traffic.traffic_bytes(hlo.parse(LOOP)) == 10 * (BLOCK + BLOCK + 4 + (4 + 4 + 1))


def test_traffic_of_slices_and_updates_is_that_of_the_part() -> None:
    text = """HloModule m

%cut (p0: f32[100,64], p1: s32[]) -> f32[1,64] {
  %p0 = f32[100,64]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %ds = f32[1,64]{1,0} dynamic-slice(%p0, %p1, %z), dynamic_slice_sizes={1,64}
}

%put (q0: f32[100,64], q1: f32[1,64], q2: s32[]) -> f32[100,64] {
  %q0 = f32[100,64]{1,0} parameter(0)
  %q1 = f32[1,64]{1,0} parameter(1)
  %q2 = s32[] parameter(2)
  %y = s32[] constant(0)
  ROOT %dus = f32[100,64]{1,0} dynamic-update-slice(%q0, %q1, %q2, %y)
}

ENTRY %main (a: f32[100,64], i: s32[]) -> f32[100,64] {
  %a = f32[100,64]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %one = f32[1,64]{1,0} fusion(%a, %i), kind=kLoop, calls=%cut
  %started = ((f32[100,64]{1,0}), f32[2,64]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2], [0:64]}
  %two = f32[2,64]{1,0:S(1)} slice-done(%started)
  ROOT %b = f32[100,64]{1,0} fusion(%a, %one, %i), kind=kLoop, calls=%put
}
"""
    row = 64 * 4
    cut, started, put = (row + 4) + row, 2 * row, (row + 4) + row
    assert traffic.traffic_bytes(hlo.parse(text)) == cut + started + put


def test_traffic_agrees_with_the_compiler_where_there_is_no_loop() -> None:
    def straight(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        for _ in range(3):
            x = jnp.tanh(x @ w) + x
        return x.sum(0), x

    shapes = (jax.ShapeDtypeStruct((64, 128), jnp.float32), jax.ShapeDtypeStruct((128, 128), jnp.float32))
    compiled = jax.jit(straight).lower(*shapes).compile()
    told = _told(compiled)["bytes accessed"]
    assert traffic.traffic_bytes(hlo.parse(_text(compiled))) == pytest.approx(told, rel=1e-3)


def test_the_compiler_counts_a_loop_once_and_we_do_not() -> None:
    """The fault for which this room counts by itself: seven times around cost as much as once."""

    def loop(x: jax.Array, w: jax.Array, length: int) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (jnp.tanh(carry @ w), None), x, length=length)[0]

    def both(length: int) -> tuple[float, float]:
        shapes = (jax.ShapeDtypeStruct((64, 128), jnp.float32), jax.ShapeDtypeStruct((128, 128), jnp.float32))
        compiled = jax.jit(loop, static_argnums=2).lower(*shapes, length).compile()
        program = hlo.parse(_text(compiled))
        assert program.runs()[1] == 0
        return _told(compiled)["flops"], traffic.traffic_bytes(program)

    (flops_7, bytes_7), (flops_14, bytes_14) = both(7), both(14)
    assert flops_14 == flops_7
    one_turn = 2 * 4 * (64 * 128 + 64 * 128) + 4 * 128 * 128  # product and tanh: each reads and writes, and the weights
    assert (bytes_14 - bytes_7) / 7 == pytest.approx(one_turn, rel=0.01)


def _text(compiled: Any) -> str:
    text = compiled.as_text()
    assert text
    return text


def _told(compiled: Any) -> dict[str, float]:
    told = compiled.cost_analysis()
    return told[0] if isinstance(told, list) else told


# --- collectives -----------------------------------------------------------------------------------------------------

SUM = "to_apply=%sum.1"


@pytest.mark.parametrize(
    ("line", "kind", "payload", "group", "sent"),
    [
        # Two arrays reduced at once over all 8.
        (
            f"%r = (f32[512]{{0:T(512)}}, f32[512,512]{{1,0}}) all-reduce(%a, %b), channel_id=1, "
            f"replica_groups=mesh['axis_0'=8,'axis_1'=1] {{'axis_0'}}, {SUM}",
            "all-reduce",
            4 * (512 + 512 * 512),
            8,
            2 * 7 / 8 * 4 * (512 + 512 * 512),
        ),
        # In pairs.
        (f"%r = bf16[10]{{0}} all-reduce(%a), replica_groups={{{{0,1}},{{2,3}}}}, {SUM}", "all-reduce", 20, 2, 20.0),
        (f"%r = f32[10]{{0}} all-reduce-start(%a), replica_groups=[2,4]<=[8], {SUM}", "all-reduce", 40, 4, 60.0),
        (
            f"%r = (f32[10]{{0}}, f32[2]{{0}}) all-reduce-start(%a, %b), replica_groups={{}}, {SUM}",
            "all-reduce",
            48,
            8,
            84.0,
        ),
        ("%r = f32[80]{0} all-gather(%a), replica_groups=[1,8]<=[8], dimensions={0}", "all-gather", 320, 8, 280.0),
        (
            "%r = (f32[10]{0}, f32[80]{0}) all-gather-start(%a), replica_groups=[1,8]<=[8], dimensions={0}",
            "all-gather",
            320,
            8,
            280.0,
        ),
        (
            "%r = ((f32[10]{0}, f32[1]{0}), (f32[80]{0}, f32[8]{0})) all-gather-start(%a, %b), replica_groups={}",
            "all-gather",
            352,
            8,
            308.0,
        ),
        # Each keeps an eighth of what it was given.
        (f"%r = f32[10]{{0}} reduce-scatter(%a), replica_groups=[1,8]<=[8], {SUM}", "reduce-scatter", 320, 8, 280.0),
        (
            f"%r = ((f32[80]{{0}}), f32[10]{{0}}, u32[]) reduce-scatter-start(%a), replica_groups={{}}, {SUM}",
            "reduce-scatter",
            320,
            8,
            280.0,
        ),
        ("%r = f32[80]{0} all-to-all(%a), replica_groups={}, dimensions={0}", "all-to-all", 320, 8, 280.0),
        ("%r = f32[10]{0} collective-permute(%a), source_target_pairs={{0,1}}", "collective-permute", 40, 8, 40.0),
        (
            "%r = (f32[10]{0}, f32[10]{0}, u32[], u32[]) collective-permute-start(%a), source_target_pairs={{0,1}}",
            "collective-permute",
            40,
            8,
            40.0,
        ),
    ],
)
def test_a_collective_is_read(line: str, kind: str, payload: int, group: int, sent: float) -> None:
    found = collectives.read(_instruction(line), chips=8)
    assert found is not None
    assert (found.kind, found.payload_bytes, found.group) == (kind, payload, group)
    assert found.sent_bytes == pytest.approx(sent)


@pytest.mark.parametrize(
    "line",
    [
        "%r = f32[10]{0} all-reduce-done(%s)",
        "%r = f32[80]{0} all-gather-done(%s)",
        "%r = f32[10]{0} add(%a, %all-reduce.3)",
        "%r = f32[10]{0} get-tuple-element(%all-reduce.3), index=0",
        f"%r = f32[10]{{0}} all-reduce(%a), replica_groups={{{{0}},{{1}}}}, {SUM}",  # each with itself: nothing is sent
    ],
)
def test_what_is_no_collective_is_not_read(line: str) -> None:
    assert collectives.read(_instruction(line), chips=8) is None


def test_a_collective_in_a_loop_counts_as_often_as_it_runs() -> None:
    (found,) = collectives.find(hlo.parse(LOOP), chips=8)
    assert (found.times, found.payload_bytes) == (10, BLOCK)
    assert found.sent_bytes == pytest.approx(10 * 2 * 7 / 8 * BLOCK)


def _instruction(line: str) -> hlo.Instruction:
    found = hlo.instruction("  " + line)
    assert found is not None
    return found


def test_the_bytes_of_a_known_sum_over_eight_devices() -> None:
    """Each of 8 devices holds 125 x 40 numbers, and the sum over devices, 5000 numbers, is what is sent."""
    program = """
import json, jax, jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxstroke.compilation import collectives, hlo, targets
target = targets.parse("cpu:8")
targets.prepare(target)
over = targets.mesh(target)
add = jax.shard_map(lambda x: jax.lax.psum(x, "data"), mesh=over, in_specs=P("data"), out_specs=P())
text = jax.jit(add).lower(jax.ShapeDtypeStruct((1000, 40), jnp.float32)).compile().as_text()
found = collectives.find(hlo.parse(text), 8)
print(json.dumps([[one.kind, one.payload_bytes, one.group, one.times, one.sent_bytes] for one in found]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["all-reduce", 20_000, 8, 1, 35_000.0]]
