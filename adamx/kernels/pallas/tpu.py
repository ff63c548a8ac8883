"""Kernels for TPUs, by Mosaic: blocks of rows and one group each; the numbers of a row's groups stay in VMEM."""

import math
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ..._annotations import Array
from ..._leaf import Step
from ..operands import group_of
from ..traced import brought
from .blocks import BlockProgram, Scalars, View, types

PLATFORM = "tpu"

ROWS, LANES = 256, 128
"""Of a block; without groups it is four times as wide."""

MAX_TOGETHER, MAX_ELEMENTS_TOGETHER = 64, 2**16
"""Leaves that share a kernel, and their elements, which all are in VMEM at once, rows filled up to LANES."""

SUBLANES = 8
"""Of a tile, which has LANES columns."""

MOST_GROUPS = 1024
"""Of a row: each of its blocks passes over the numbers of all of them."""


def view(shape: tuple[int, ...], group: int) -> View:
    """How a leaf of this shape is cut into blocks; `group` is the length of a group, 0 if there are none."""
    rows, columns = _matrix(shape)
    return View(rows, columns, (min(rows, ROWS), min(columns, group or 4 * LANES)))


def call(
    program: BlockProgram, view: View, scalars: Scalars, keys: Array, operands: list[Array], interpret: Any
) -> list[Array]:
    """The new arrays of a leaf; all are matrices, and `keys` has its key."""
    groups = view.grid[1]
    element = pl.BlockSpec(view.block, lambda i, j: (i, j))
    group = pl.BlockSpec((view.block[0], groups), lambda i, j: (i, 0))
    specs = [group if each else element for each in program.grouped]
    masked = view.is_ragged and any(program.grouped)

    def kernel(floats: Any, integers: Any, keys: Any, *refs: Any) -> None:
        i, j = pl.program_id(0), pl.program_id(1)
        row, column = view.place(i, j)
        here = jax.lax.broadcasted_iota(jnp.int32, (view.block[0], groups), 1) == j
        blocks = [_group(ref, here) if each else ref[...] for ref, each in zip(refs, program.grouped, strict=False)]
        inside = column < view.columns if masked else None
        results = program.step(blocks, keys[0, 0], view.number(row, column), inside, Scalars(floats, integers))
        changed = zip(refs[1 : len(operands)], refs[len(operands) :], results, program.grouped[1:], strict=True)
        for old, ref, new, each in changed:
            if each and groups > 1:  # later groups keep their old numbers: interpreters show them to the next block
                others = jnp.where(j == 0, _wide(old[...]), _wide(ref[...]))
                new = _narrow(jnp.where(here, _wide(new), others), ref.dtype)
            ref[...] = new

    smem = pl.BlockSpec(memory_space=pltpu.SMEM)
    return pl.pallas_call(
        kernel,
        grid=view.grid,
        in_specs=[smem, smem, smem, *specs],
        out_specs=specs[1:],
        out_shape=types(operands[1:]),
        input_output_aliases={4 + i: i for i in range(len(operands) - 1)},
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="adamx_step",
    )(*scalars, keys, *operands)


def alike(step: Step) -> Hashable:
    """Equal for small leaves that can share a kernel: those of one shape, which are stacked in VMEM."""
    return _matrix(jnp.shape(step.leaf.g))


def together(leaves: int, shape: tuple[int, ...]) -> int:
    """How many of that many leaves of one shape share a kernel; 0 if VMEM has no room for one."""
    rows, columns = _matrix(shape)
    return min(leaves, MAX_TOGETHER, MAX_ELEMENTS_TOGETHER // (rows * -(-columns // LANES) * LANES))


def why_not_together(step: Step) -> str | None:
    """Why small leaves are better not stacked: XLA would copy each of their arrays to lay it out for a kernel."""
    shape = jnp.shape(step.leaf.g)
    if any(x.dtype != jnp.float32 for x in jax.tree.leaves(brought(step)._replace(key=None))):
        return "small arrays of other dtypes than float32 would be copied to be stacked"
    if len(shape) > 2 or _lies_transposed(shape):
        return "small arrays of more than two axes, or of more rows than columns, would be copied to be stacked"
    return None


def why_not_alone(step: Step) -> str | None:
    """Why a leaf is better not cut into blocks."""
    shape, grouped = jnp.shape(step.leaf.g), group_of(step) > 0
    rows, columns = _matrix(shape)
    xla_takes_few_passes = not grouped or columns < LANES or columns % LANES == 0
    if xla_takes_few_passes and _lies_transposed(shape):
        return f"arrays of shape {shape} lie transposed and would be copied for a kernel"
    if 0 < group_of(step) < min(LANES, columns):
        return f"blocks of groups of {group_of(step)} are narrower than a tile"
    if grouped and rows < SUBLANES:
        return f"arrays of {rows} rows would be cut into blocks of less than a tile"
    if grouped and columns > MOST_GROUPS * LANES:
        return f"rows of {columns} elements are too long for a kernel"
    return None


def _lies_transposed(shape: tuple[int, ...]) -> bool:
    """Whether XLA lays a matrix out by columns, as it does where fewer elements are then needed to fill up tiles."""
    rows, columns = _matrix(shape)
    filled = lambda n, m: -(-n // SUBLANES) * SUBLANES * (-(-m // LANES) * LANES)  # noqa: E731
    return filled(columns, rows) < filled(rows, columns)


def program_together(step: Step, total: Any, leaves: int) -> BlockProgram:
    """The step of so many leaves of one shape, stacked as matrices."""
    rows, columns = _matrix(jnp.shape(step.leaf.g))
    return BlockProgram(step, total, (leaves * rows, columns), key=(leaves * rows, 1))


def call_together(
    program: BlockProgram, scalars: Scalars, keys: Array, leaves: list[list[Array]], interpret: Any
) -> list[list[Array]]:
    """The new arrays of small leaves: they are stacked in VMEM."""
    shapes, n = [leaf[0].shape for leaf in leaves], len(leaves[0])
    rows, columns = _matrix(shapes[0])
    operands = [x.reshape(rows, columns) for leaf in leaves for x in leaf]
    changed = [k * n + a for k in range(len(leaves)) for a in range(1, n)]

    def kernel(floats: Any, integers: Any, keys: Any, *refs: Any) -> None:
        inputs, outputs, stacks = refs[: len(operands)], refs[len(operands) : -n], refs[-n:]
        for i, ref in enumerate(inputs):
            stacks[i % n][pl.ds(i // n * rows, rows), :] = ref[...]
        row, column = (jax.lax.broadcasted_iota(jnp.int32, program.block, axis) for axis in (0, 1))
        index = jax.lax.bitcast_convert_type(row % rows * columns + column, jnp.uint32)
        blocks = [stack[...] for stack in stacks]
        new = program.step(blocks, keys[...], index, None, Scalars(floats, integers))
        for i, ref in enumerate(outputs):
            first = i // (n - 1) * rows
            ref[...] = new[i % (n - 1)][first : first + rows]

    smem, vmem = (pl.BlockSpec(memory_space=space) for space in (pltpu.SMEM, pltpu.VMEM))
    results = iter(
        pl.pallas_call(
            kernel,
            in_specs=[smem, smem, *[vmem] * (1 + len(operands))],
            out_specs=[vmem] * len(changed),
            out_shape=types([operands[i] for i in changed]),
            scratch_shapes=[pltpu.VMEM(program.block, x.dtype) for x in leaves[0]],
            input_output_aliases={3 + i: k for k, i in enumerate(changed)},
            interpret=interpret,
            name="adamx_step",
        )(*scalars, jnp.repeat(keys[0], rows)[:, None], *operands)
    )
    return [[next(results).reshape(shape) for _ in range(n - 1)] for shape in shapes]


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def _group(ref: Any, here: Array) -> Array:
    """One column of a block that holds the numbers of all groups of its rows."""
    if ref.shape[1] == 1:
        return ref[...]
    return _narrow(jnp.sum(jnp.where(here, _wide(ref[...]), 0.0), axis=-1, keepdims=True), ref.dtype)


def _wide(x: Array) -> Array:
    """float32; from small integers by int32, as Mosaic converts them no other way."""
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.int32).astype(jnp.float32)


def _narrow(x: Array, dtype: Any) -> Array:
    return x.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else x.astype(jnp.int32).astype(dtype)
