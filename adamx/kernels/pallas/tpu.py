"""Kernels for TPUs, by Mosaic: blocks of rows and one group each; the numbers of a row's groups stay in VMEM."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ..._annotations import Array
from .blocks import BlockProgram, Scalars, View

ROWS, LANES = 256, 128
"""Of a block; without groups it is four times as wide."""


def view(shape: tuple[int, ...], group: int) -> View:
    """How a leaf of this shape is cut into blocks; `group` is the length of a group, 0 if there are none."""
    columns = shape[-1] if shape else 1
    rows = math.prod(shape[:-1])
    return View(rows, columns, (min(rows, ROWS), min(columns, group or 4 * LANES)))


def call(program: BlockProgram, scalars: Scalars, operands: list[Array], interpret: Any) -> list[Array]:
    """The new arrays of a leaf."""
    view, grouped = program.view, program.grouped
    groups = view.grid[1]
    element = pl.BlockSpec(view.block, lambda i, j: (i, j))
    group = pl.BlockSpec((view.block[0], groups), lambda i, j: (i, 0))
    specs = [group if each else element for each in grouped]

    def kernel(floats: Any, integers: Any, key: Any, *refs: Any) -> None:
        i, j = pl.program_id(0), pl.program_id(1)
        inputs, outputs = refs[: len(operands)], refs[len(operands) :]
        here = jax.lax.broadcasted_iota(jnp.int32, (view.block[0], groups), 1) == j
        blocks = [_group(ref, here) if each else ref[...] for ref, each in zip(inputs, grouped, strict=True)]
        results = program.step(blocks, view.place(i, j), Scalars(floats, integers, key))
        for ref, new, each in zip(outputs, results, grouped[1:], strict=True):
            if each and groups > 1:
                others = jnp.where(j == 0, jnp.zeros(ref.shape, jnp.float32), _wide(ref[...]))
                new = _narrow(jnp.where(here, _wide(new), others), ref.dtype)
            ref[...] = new

    smem = pl.BlockSpec(memory_space=pltpu.SMEM)
    return pl.pallas_call(
        kernel,
        grid=view.grid,
        in_specs=[smem, smem, smem, *specs],
        out_specs=specs[1:],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands[1:]],
        input_output_aliases={4 + i: i for i in range(len(operands) - 1)},
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="adamx_step",
    )(*scalars, *operands)


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
