"""Kernels for NVIDIA GPUs, by Triton: a program takes a few groups, or a run of elements if nothing is grouped."""

import contextlib
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from ..._annotations import Array
from ..._leaf import Step
from .blocks import BlockProgram, Scalars, View, types

PLATFORM = "cuda"

ELEMENTS, WARPS = 1024, 4
"""Of a program: eight elements a thread."""

FEWEST_TOGETHER, MOST_TOGETHER, FEW_KERNELS = 16, 40, 50
"""Leaves that share a kernel: as few as FEW_KERNELS allow, as compiling it takes more than their number's share."""


def view(shape: tuple[int, ...], group: int) -> View:
    """How a leaf of this shape is cut into blocks; `group` is the length of a group, 0 if there are none."""
    size, last = math.prod(shape), shape[-1] if shape else 1
    if not group:
        return View(1, size, (1, ELEMENTS))
    group = min(group, last)
    columns = group if last % group == 0 else last
    width = pl.next_power_of_2(group)
    return View(size // columns, columns, (ELEMENTS // width, width))


def call(
    program: BlockProgram, view: View, scalars: Scalars, keys: Array, operands: list[Array], interpret: Any
) -> list[Array]:
    """The new arrays of a leaf; all are matrices, and `keys` has its key."""
    rows, columns = view.block
    masked = view.is_ragged and any(program.grouped)

    def kernel(floats: Any, integers: Any, keys: Any, *refs: Any) -> None:
        i, j = pl.program_id(0), pl.program_id(1)
        row, column = view.place(i, j)
        masks = _masks(view, i, row, column)
        places = {False: (_slice(i, rows), _slice(j, columns)), True: (_slice(i, rows), _slice(j, 1))}
        blocks = [_load(ref.at[places[each]], masks[each]) for ref, each in zip(refs, program.grouped, strict=False)]
        inside = column < view.columns if masked else None
        results = program.step(blocks, keys[0, 0], view.number(row, column), inside, Scalars(floats, integers))
        for ref, new, each in zip(refs[len(operands) :], results, program.grouped[1:], strict=True):
            plgpu.store(ref.at[places[each]], new, mask=masks[each])

    changed = range(1, len(operands))
    return _pallas_call(kernel, view.grid, operands, changed, interpret)(*scalars, keys, *operands)


def alike(step: Step) -> Hashable:
    """Equal for small leaves that can share a kernel: those of one size, so that calls are equal and compiled once."""
    return jnp.size(step.leaf.g)


def together(leaves: int, shape: tuple[int, ...]) -> int:
    """How many of that many leaves of one shape share a kernel."""
    del shape
    return max(FEWEST_TOGETHER, min(MOST_TOGETHER, -(-leaves // FEW_KERNELS)))


def program_together(step: Step, total: Any, leaves: int) -> BlockProgram:
    """The step of a run of elements of one of several leaves of the same size."""
    del leaves
    return BlockProgram(step, total, (1, min(ELEMENTS, pl.next_power_of_2(jnp.size(step.leaf.g)))))


def call_together(
    program: BlockProgram, scalars: Scalars, keys: Array, leaves: list[list[Array]], interpret: Any
) -> list[list[Array]]:
    """The new arrays of small leaves: a program takes a run of elements of one leaf."""
    shapes = [leaf[0].shape for leaf in leaves]
    size, n, run = leaves[0][0].size, len(leaves[0]), program.block[1]
    changed = [k * n + a for k in range(len(leaves)) for a in range(1, n)]
    operands = [x.reshape(1, -1) for leaf in leaves for x in leaf]

    def kernel(floats: Any, integers: Any, keys: Any, *refs: Any) -> None:
        leaf, j = pl.program_id(0), pl.program_id(1)
        element = jax.lax.broadcasted_iota(jnp.int32, (1, run), 1) + j * run
        inside = element < size if size % run else None

        def load(k: int) -> Sequence[Array]:
            return [_load(ref.at[0:1, _slice(j, run)], inside) for ref in refs[k * n : (k + 1) * n]]

        def store(k: int, *new: Array) -> Sequence[Array]:
            first = len(operands) + k * (n - 1)
            for ref, x in zip(refs[first : first + n - 1], new, strict=True):
                plgpu.store(ref.at[0:1, _slice(j, run)], x, mask=inside)
            return []

        index = jax.lax.bitcast_convert_type(element, jnp.uint32)
        blocks = _of_leaf(leaf, range(len(leaves)), load)
        _of_leaf(
            leaf,
            range(len(leaves)),
            store,
            *program.step(blocks, keys[0, leaf], index, None, Scalars(floats, integers)),
        )

    grid = len(leaves), -(-size // run)
    results = iter(_pallas_call(kernel, grid, operands, changed, interpret)(*scalars, keys, *operands))
    return [[next(results).reshape(shape) for _ in range(n - 1)] for shape in shapes]


def _of_leaf(leaf: Array, among: range, function: Callable[..., Sequence[Array]], *operands: Array) -> Sequence[Array]:
    """`function(leaf, *operands)`, found by halving: a chain of choices takes much longer to compile."""
    if len(among) == 1:
        return function(among[0], *operands)
    middle = len(among) // 2
    lower, upper = among[:middle], among[middle:]
    return jax.lax.cond(
        leaf < upper[0],
        lambda *xs: _of_leaf(leaf, lower, function, *xs),
        lambda *xs: _of_leaf(leaf, upper, function, *xs),
        *operands,
    )


def _pallas_call(kernel: Any, grid: Any, operands: Sequence[Array], changed: Sequence[int], interpret: Any) -> Any:
    """A call whose results take the places of the changed operands."""
    called = pl.pallas_call(
        kernel,
        grid=grid,
        out_shape=types([operands[i] for i in changed]),
        input_output_aliases={3 + i: k for k, i in enumerate(changed)},
        compiler_params=plgpu.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
        name="adamx_step",
    )

    def call(*arguments: Array) -> Any:
        with contextlib.nullcontext() if interpret else _for_a_gpu():
            return called(*arguments)

    return call


def _for_a_gpu() -> Any:
    """Within it Triton knows of a GPU, as newer JAX asks. Where there is none, it is any: kernels are alike for all."""
    config: Any = jax.config
    default = config.jax_default_device
    if (getattr(default, "platform", default) or jax.default_backend()) in ("gpu", PLATFORM):
        return contextlib.nullcontext()
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=AbstractDevice("NVIDIA A100", 108, PLATFORM)))


def _masks(view: View, i: Array, row: Array, column: Array) -> dict[bool, Any]:
    """Which elements (False) and groups (True) of a block lie in the leaf; `None` where all do."""
    in_columns = column < view.columns if view.is_ragged else None
    if view.rows % view.block[0] == 0:
        return {False: in_columns, True: None}
    groups = jax.lax.broadcasted_iota(jnp.int32, (view.block[0], 1), 0) + i * view.block[0] < view.rows
    elements = row < view.rows
    return {False: elements if in_columns is None else elements & in_columns, True: groups}


def _slice(i: Array, length: int) -> Any:
    return pl.ds(i * length, length)


def _load(ref: Any, mask: Any) -> Array:
    return plgpu.load(ref) if mask is None else plgpu.load(ref, mask=mask, other=0)
