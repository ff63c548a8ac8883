"""Kernels for NVIDIA GPUs, by Triton: a program takes a few groups, or a run of elements if nothing is grouped."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from ..._annotations import Array
from .blocks import BlockProgram, Scalars, View

ELEMENTS, WARPS = 1024, 4
"""Of a program: eight elements a thread."""


def view(shape: tuple[int, ...], group: int) -> View:
    """How a leaf of this shape is cut into blocks; `group` is the length of a group, 0 if there are none."""
    size, last = math.prod(shape), shape[-1] if shape else 1
    if not group:
        return View(1, size, (1, ELEMENTS))
    group = min(group, last)
    columns = group if last % group == 0 else last
    width = pl.next_power_of_2(group)
    return View(size // columns, columns, (ELEMENTS // width, width))


def call(program: BlockProgram, scalars: Scalars, operands: list[Array], interpret: Any) -> list[Array]:
    """The new arrays of a leaf."""
    view, grouped = program.view, program.grouped
    rows, columns = view.block

    def kernel(floats: Any, integers: Any, key: Any, *refs: Any) -> None:
        i, j = pl.program_id(0), pl.program_id(1)
        inputs, outputs = refs[: len(operands)], refs[len(operands) :]
        places = {False: (pl.ds(i * rows, rows), pl.ds(j * columns, columns)), True: (pl.ds(i * rows, rows), pl.ds(j, 1))}
        row, column = view.place(i, j)
        masks = _masks(view, i, row, column)
        blocks = [_load(ref.at[places[each]], masks[each]) for ref, each in zip(inputs, grouped, strict=True)]
        results = program.step(blocks, (row, column), Scalars(floats, integers, key))
        for ref, new, each in zip(outputs, results, grouped[1:], strict=True):
            plgpu.store(ref.at[places[each]], new, mask=masks[each])

    return pl.pallas_call(
        kernel,
        grid=view.grid,
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands[1:]],
        input_output_aliases={4 + i: i for i in range(len(operands) - 1)},
        compiler_params=plgpu.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
        name="adamx_step",
    )(*scalars, *operands)


def _masks(view: View, i: Array, row: Array, column: Array) -> dict[bool, Any]:
    """Which elements (False) and groups (True) of a block lie in the leaf; `None` where all do."""
    in_columns = column < view.columns if view.is_ragged else None
    if view.rows % view.block[0] == 0:
        return {False: in_columns, True: None}
    groups = jax.lax.broadcasted_iota(jnp.int32, (view.block[0], 1), 0) + i * view.block[0] < view.rows
    elements = row < view.rows
    return {False: elements if in_columns is None else elements & in_columns, True: groups}


def _load(ref: Any, mask: Any) -> Array:
    return plgpu.load(ref) if mask is None else plgpu.load(ref, mask=mask, other=0)
