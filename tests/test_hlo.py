"""Bytes and kernels of HLO texts, counted by hand. The texts are what XLA prints for steps, shortened."""

import textwrap

import pytest

from benchmarks import hlo


def counted(text):
    """(read, written, kind) of what does something, by name."""
    return {x.name: (x.read, x.written, x.kind) for x in hlo.work(textwrap.dedent(text))}


def entry(*lines):
    """A module whose entry computation has these instructions."""
    return "\n".join(["HloModule m", "", "ENTRY %main (p: f32[8,128]) -> f32[8,128] {", *lines, "}", ""])


GPU_FUSION = """\
    HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias) }

    %fused_add (param_0: f32[4,256], param_1: f32[], param_2: bf16[4,256]) -> (f32[4,256], bf16[4,256], s8[4,2,128]) {
      %param_0 = f32[4,256]{1,0} parameter(0)
      %param_1 = f32[] parameter(1)
      %param_2 = bf16[4,256]{1,0} parameter(2)
      %convert.1 = f32[4,256]{1,0} convert(%param_2)
      %add.1 = f32[4,256]{1,0} add(%param_0, %convert.1)
      ROOT %tuple.1 = (f32[4,256]{1,0}, bf16[4,256]{1,0}, s8[4,2,128]{2,1,0}) tuple(%add.1, %param_2, %convert.1)
    }

    ENTRY %main.6 (params__w__.1: f32[4,256], state.1: bf16[4,256], count.1: s32[]) -> (f32[4,256], /*index=1*/s32[]) {
      %params__w__.1 = f32[4,256]{1,0} parameter(0), sharding={replicated}, metadata={op_name="params[\\'w\\']"}
      %state.1 = bf16[4,256]{1,0} parameter(1), metadata={op_name="a (b) %params__w__.1"}
      %count.1 = s32[] parameter(2)
      %constant_1 = s32[] constant(1)
      %loop_add_fusion = s32[] fusion(%count.1, %constant_1), kind=kLoop, calls=%fused_count
      %loop_fusion = (f32[4,256]{1,0}, bf16[4,256]{1,0}, /*index=2*/s8[4,2,128]{2,1,0}) fusion(%params__w__.1, \
    %loop_add_fusion, /*index=2*/%state.1), kind=kLoop, calls=%fused_add, backend_config={"a":{"b":[]}}
      %get-tuple-element.1 = f32[4,256]{1,0} get-tuple-element(%loop_fusion), index=0
      %get-tuple-element.2 = s8[4,2,128]{2,1,0} get-tuple-element(%loop_fusion), index=2
      %bitcast.1 = s8[4,256]{1,0} bitcast(%get-tuple-element.2)
      %copy.1 = s8[4,256]{1,0} copy(%bitcast.1)
      ROOT %tuple.2 = (f32[4,256]{1,0}, s32[]) tuple(%get-tuple-element.1, %loop_add_fusion)
    }

    %fused_count (param_0.1: s32[], param_1.1: s32[]) -> s32[] {
      %param_0.1 = s32[] parameter(0)
      %param_1.1 = s32[] parameter(1)
      ROOT %add.2 = s32[] add(%param_0.1, %param_1.1)
    }
    """


def test_a_fusion_on_a_gpu():
    assert counted(GPU_FUSION) == {
        "loop_add_fusion": (4 + 4, 4, "kernel"),  # the count and a constant
        # Of 4 × 256 = 1024 elements: reads float32, a scalar and bfloat16; writes float32, bfloat16, int8.
        "loop_fusion": (4096 + 4 + 2048, 4096 + 2048 + 1024, "kernel"),
        "copy.1": (1024, 1024, "kernel"),
    }


def test_the_largest_array_tells_a_big_kernel():
    assert [x.size for x in hlo.work(textwrap.dedent(GPU_FUSION))] == [1, 1024, 1024]


def test_a_call_that_works_in_place_reads_once_and_writes_once():
    text = entry(
        "  %g = f32[8,128]{1,0} parameter(0)",
        "  %p = f32[8,128]{1,0} parameter(1)",
        "  %code = s8[8,128]{1,0} parameter(2)",
        "  %scale = bf16[8,1]{1,0} parameter(3)",
        "  %numbers = f32[2]{0} constant({1, 2})",
        "  %pallas_call.0 = (f32[8,128]{1,0}, s8[8,128]{1,0}, bf16[8,1]{1,0}) custom-call(%numbers, %g, %p, %code, "
        '%scale), custom_call_target="__gpu$xla.gpu.triton", operand_layout_constraints={f32[2]{0}, f32[8,128]{1,0}}, '
        "output_to_operand_aliasing={{0}: (2, {}), {1}: (3, {}), {2}: (4, {})}, backend_config={debug = false}",
        "  %get-tuple-element = f32[8,128]{1,0} get-tuple-element(%pallas_call.0), index=0",
        "  ROOT %tuple = (f32[8,128]{1,0}) tuple(%get-tuple-element)",
    )
    # Of 1024 elements; 8 scales of 2 bytes; two float32 numbers.
    assert counted(text) == {"pallas_call.0": (8 + 4096 + 4096 + 1024 + 16, 4096 + 1024 + 16, "kernel")}


def test_a_tpu_step_through_vmem():
    """The gradient is fetched, a fusion adds in VMEM, its result is stored; SMEM holds the numbers."""
    text = entry(
        "  %g = f32[16,256]{1,0:T(8,128)} parameter(0)",
        "  %p = u16[16,256]{1,0:T(8,128)(2,1)} parameter(1)",
        "  %t = s32[]{:T(128)S(6)} parameter(2)",
        "  %add.1 = s32[]{:T(128)S(6)} add(%t, %t)",
        "  %copy-start = (f32[16,256]{1,0:T(8,128)S(1)}, f32[16,256]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%g)",
        "  %copy-done = f32[16,256]{1,0:T(8,128)S(1)} copy-done(%copy-start)",
        "  %fusion.1 = (u16[16,256]{1,0:T(8,128)(2,1)S(1)}, f32[16,256]{1,0:T(8,128)}) fusion(%copy-done, %p, %add.1), "
        "kind=kLoop, calls=%fused",
        "  %get-tuple-element.1 = u16[16,256]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%fusion.1), index=0",
        "  %copy-start.1 = (u16[16,256]{1,0:T(8,128)(2,1)}, u16[16,256]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}) "
        "copy-start(%get-tuple-element.1)",
        "  ROOT %copy-done.1 = u16[16,256]{1,0:T(8,128)(2,1)} copy-done(%copy-start.1)",
        "}",
        "",
        "%fused (a: f32[16,256], b: u16[16,256], c: s32[]) -> (u16[16,256], f32[16,256]) {",
        "  %a = f32[16,256]{1,0:T(8,128)} parameter(0)",
        "  %b = u16[16,256]{1,0:T(8,128)(2,1)} parameter(1)",
        "  %c = s32[]{:T(128)} parameter(2)",
        "  ROOT %r = (u16[16,256]{1,0:T(8,128)(2,1)}, f32[16,256]{1,0:T(8,128)}) tuple(%b, %a)",
    )
    # Of 16 × 256 = 4096 elements.
    assert counted(text) == {
        "add.1": (0, 0, "scalar"),
        "copy-done": (16384, 0, "copy"),  # from the main memory to VMEM
        "fusion.1": (8192, 16384, "kernel"),  # the parameter in, the second result out
        "copy-done.1": (0, 8192, "copy"),
    }


def test_pieces_of_an_array_are_read_once():
    text = entry(
        "  %x = u8[64,128]{1,0:T(32,128)(4,1)} parameter(0)",
        "  %slice-start = ((u8[64,128]{1,0:T(32,128)(4,1)}), u8[32,128]{1,0:T(32,128)(4,1)S(1)}, s32[]{:S(2)}) "
        "slice-start(%x), slice={[0:32], [0:128]}",
        "  %async-start = ((u8[64,128]{1,0:T(32,128)(4,1)}), u8[32,128]{1,0:T(32,128)(4,1)S(1)}, s32[]{:S(2)}) "
        "async-start(%x), calls=%async_slice",
        "  %slice-done = u8[32,128]{1,0:T(32,128)(4,1)S(1)} slice-done(%slice-start)",
        "  %async-done = u8[32,128]{1,0:T(32,128)(4,1)S(1)} async-done(%async-start)",
        "  %custom-call = u8[64,128]{1,0:T(32,128)(4,1)S(1)} custom-call(%slice-done, %async-done), "
        'custom_call_target="ConcatBitcast"',
        "  ROOT %slice.1 = u8[8,128]{1,0:T(32,128)(4,1)S(1)} slice(%x), slice={[0:8], [0:128]}",
        "}",
        "",
        "%async_slice (y: u8[64,128]) -> u8[32,128] {",
        "  %y = u8[64,128]{1,0:T(32,128)(4,1)} parameter(0)",
        "  ROOT %slice.2 = u8[32,128]{1,0:T(32,128)(4,1)S(1)} slice(%y), slice={[32:64], [0:128]}",
    )
    assert counted(text) == {
        "slice-done": (32 * 128, 0, "copy"),
        "async-done": (32 * 128, 0, "copy"),
        "slice.1": (32 * 128, 0, "kernel"),  # 8 rows lie in a tile of 32
    }


def test_a_fusion_that_only_slices_an_operand_reads_the_slices():
    text = entry(
        "  %all = f32[1000]{0} parameter(0)",
        "  %also = f32[1000]{0} parameter(1)",
        "  ROOT %fusion = (f32[10]{0}, f32[20]{0}) fusion(%all, %also), kind=kLoop, calls=%parts",
        "}",
        "",
        "%parts (a: f32[1000], b: f32[1000]) -> (f32[10], f32[20]) {",
        "  %a = f32[1000]{0} parameter(0)",
        "  %b = f32[1000]{0} parameter(1)",
        "  %flat = f32[1000]{0} bitcast(%a)",
        "  %first = f32[10]{0} slice(%flat), slice={[0:10]}",
        "  %second = f32[20]{0} slice(%a), slice={[10:30]}",
        "  %negate = f32[1000]{0} negate(%b)",
        "  %third = f32[20]{0} slice(%b), slice={[10:30]}",
        "  ROOT %tuple = (f32[10]{0}, f32[20]{0}) tuple(%first, %third)",
    )
    assert counted(text) == {"fusion": (40 + 80 + 4000, 40 + 80, "kernel")}


def test_a_loop_counts_as_often_as_it_runs():
    text = entry(
        "  %p = (s32[], f32[8,128]{1,0}) parameter(0)",
        "  %while = (s32[], f32[8,128]{1,0}) while(%p), condition=%more, body=%once, "
        'backend_config={"known_trip_count":{"n":"3"}}',
        "  ROOT %x = f32[8,128]{1,0} get-tuple-element(%while), index=1",
        "}",
        "",
        "%once (q: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {",
        "  %q = (s32[], f32[8,128]{1,0}) parameter(0)",
        "  %i = s32[] get-tuple-element(%q), index=0",
        "  %y = f32[8,128]{1,0} get-tuple-element(%q), index=1",
        "  %negate = f32[8,128]{1,0} negate(%y)",
        "  ROOT %next = (s32[], f32[8,128]{1,0}) tuple(%i, %negate)",
        "}",
        "",
        "%more (r: (s32[], f32[8,128])) -> pred[] {",
        "  %r = (s32[], f32[8,128]{1,0}) parameter(0)",
        "  %j = s32[] get-tuple-element(%r), index=0",
        "  ROOT %compare = pred[] compare(%j, %j), direction=LT",
    )
    work = hlo.work(text)
    assert [x.name for x in work] == ["negate"] * 3 + ["compare"] * 4
    assert sum(x.read for x in work) == 3 * 4096 + 4 * (4 + 4)
    assert sum(x.written for x in work) == 3 * 4096 + 4 * 1


def test_a_called_computation_is_counted():
    text = entry(
        "  %p = f32[8,128]{1,0} parameter(0)",
        "  ROOT %call = f32[8,128]{1,0} call(%p), to_apply=%inner",
        "}",
        "",
        "%inner (q: f32[8,128]) -> f32[8,128] {",
        "  %q = f32[8,128]{1,0} parameter(0)",
        "  ROOT %negate = f32[8,128]{1,0} negate(%q)",
    )
    assert counted(text) == {"negate": (4096, 4096, "kernel")}


@pytest.mark.parametrize(
    ("kind", "nbytes"),
    [
        ("f32[5,6]{1,0}", 5 * 6 * 4),
        ("f32[5,6]{1,0:T(8,128)}", 8 * 128 * 4),
        ("bf16[768,6]{0,1:T(8,128)(2,1)}", 8 * 768 * 2),  # the last axis lies outermost
        ("u8[2,50,130]{2,1,0:T(32,128)(4,1)}", 2 * 64 * 256),
        ("f32[768]{0:T(1024)}", 1024 * 4),
        ("s32[]{:T(128)}", 4),
        ("pred[7]{0}", 7),
        ("f32[0,128]{1,0}", 0),
        ("token[]", 0),
    ],
)
def test_a_tpu_pads_the_innermost_axes_to_tiles(kind, nbytes):
    text = entry(f"  %x = {kind} parameter(0)", f"  ROOT %copy = {kind} copy(%x)")
    assert counted(text) == {"copy": (nbytes, nbytes, "kernel")}


def test_what_cannot_be_counted_is_an_error():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.work("not HLO")
    loop = entry("  %p = f32[8]{0} parameter(0)", "  ROOT %w = f32[8]{0} while(%p), condition=%c, body=%b")
    with pytest.raises(ValueError, match="known_trip_count"):
        hlo.work(loop)
    choice = "  ROOT %c = f32[8]{0} conditional(%p, %p, %p), true_computation=%a, false_computation=%b"
    with pytest.raises(ValueError, match="branch"):
        hlo.work(entry("  %p = f32[8]{0} parameter(0)", choice))


def test_exchanges_are_counted_wherever_they_stand_and_once():
    text = entry(
        "  %p = f32[8,128]{1,0} parameter(0)",
        "  %both = (f32[], f32[2]{0}) all-reduce(%p, %p), channel_id=1, to_apply=%sum",
        "  %start = (f32[1,128]{1,0}, f32[8,128]{1,0}) all-gather-start(%p), channel_id=2, dimensions={0}",
        "  ROOT %done = f32[8,128]{1,0} all-gather-done(%start)",
    )
    assert hlo.exchanges(text) == [("all-reduce", 12), ("all-gather", 4096)]
    assert hlo.exchanges(textwrap.dedent(GPU_FUSION)) == []
