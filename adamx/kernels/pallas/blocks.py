"""What the kernels of all devices share: the step of one block of a leaf's arrays.

The rule is the kernel: a block is decoded, stepped by the rule's own `step`, encoded. Scalars that do not depend on
the block, such as bias corrections, are computed once, outside of the kernel, and enter it in two vectors.
"""

import dataclasses
import functools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._annotations import Array
from ..._layout import of_elements
from ..._leaf import SharedInputs, Step, StepResult
from ..traced import Traced, brought, trace, with_brought, with_shared_code
from .dialect import in_dialect


class View(NamedTuple):
    """A leaf as a matrix, and the blocks that a kernel cuts it into.

    Elements of a group stand side by side in a row, and a block is as wide as a group where there are groups.

    Attributes:
        rows: of the matrix.
        columns: of the matrix.
        block: the shape of a block.
        axes: if the leaf is a part of a whole one, `axes_of` it; the last is as long as some rows, or is some of one.
    """

    rows: int
    columns: int
    block: tuple[int, int]
    axes: list[tuple[int, int]] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """The number of blocks along both axes."""
        return -(-self.rows // self.block[0]), -(-self.columns // self.block[1])

    @property
    def is_ragged(self) -> bool:
        """Whether the last block of a row reaches beyond its end."""
        return self.columns % self.block[1] != 0

    def place(self, i: Array, j: Array) -> tuple[Array, Array]:
        """The row and the column of each element of block (i, j), int32."""
        row, column = (jax.lax.broadcasted_iota(jnp.int32, self.block, axis) for axis in (0, 1))
        return row + i * self.block[0], column + j * self.block[1]

    def number(self, row: Array, column: Array) -> Array:
        """The number of each element in the leaf, uint32; of a part without `Part.first`."""
        if self.axes is None:
            return jax.lax.bitcast_convert_type(row * self.columns + column, jnp.uint32)
        *outer, (run, stride) = self.axes
        if run % self.columns == 0:
            row, inner = _divided(row, run // self.columns)
            column = column + inner * self.columns
        else:
            row, column = _divided(column, run)
        number = column * _wrapped(stride)
        while outer:
            length, stride = outer.pop()
            row, index = _divided(row, length) if outer else (row, row)
            number = number + index * _wrapped(stride)
        return jax.lax.bitcast_convert_type(number, jnp.uint32)


def _divided(x: Array, n: int) -> tuple[Array, Any]:
    """Quotient and remainder of integers that are not negative."""
    return (x, np.int32(0)) if n == 1 else (jax.lax.div(x, np.int32(n)), jax.lax.rem(x, np.int32(n)))


def _wrapped(stride: int) -> np.int32:
    return np.uint32(stride % 2**32).astype(np.int32)


class Scalars(NamedTuple):
    """Scalars of several dtypes in two vectors, or references to them, as kernels take them.

    The vectors have shape (1, n), of which TPUs allow one more axis, as `jax.vmap` makes it.

    Attributes:
        floats: float32.
        integers: int32; unsigned ones by their bits, booleans as 0 and 1.
    """

    floats: Any
    integers: Any

    @classmethod
    def of(cls, scalars: Sequence[Array]) -> "Scalars":
        """The vectors that hold the scalars."""
        floats = [x.astype(jnp.float32) for x in scalars if _is_float(x)]
        integers = [x.astype(jnp.int32) for x in scalars if not _is_float(x)]
        return cls(jnp.stack(floats or [jnp.float32(0)])[None], jnp.stack(integers or [jnp.int32(0)])[None])

    def read(self, like: Sequence[Any]) -> Iterator[Array]:
        """The scalars, in the dtypes of `like`."""
        floats = integers = 0
        for x in like:
            if _is_float(x):
                yield self.floats[0, floats].astype(x.dtype)
                floats += 1
            else:
                number = self.integers[0, integers]
                yield number != 0 if x.dtype == jnp.bool_ else number.astype(x.dtype)
                integers += 1


def keys(steps: Sequence[Step]) -> Array:
    """The keys of the leaves' random bits, int32 by their bits, (1, leaves)."""
    if any(isinstance(step.noise.key, jax.Array) for step in steps):
        return jax.lax.bitcast_convert_type(jnp.stack([jnp.asarray(step.noise.key) for step in steps]), jnp.int32)[None]
    return jnp.asarray(np.asarray([[step.noise.key for step in steps]], np.uint32).view(np.int32))


@dataclasses.dataclass(frozen=True)
class _BlockStep(Step):
    """The step of a block. What lies beyond the end of a row counts as zero in the group that it fills up."""

    inside: Array | None = None

    def compute(self, total: Any) -> tuple[Array, Any]:
        direction, slots = super().compute(total)
        if (inside := self.inside) is None:
            return direction, slots
        return direction, jax.tree.map(lambda x: jnp.where(inside, x, 0) if x.shape == inside.shape else x, slots)


class BlockProgram:
    """The step of one block of any leaf of a kind.

    Args:
        step: the step of a leaf of the kind.
        total: the rule's measure over all leaves.
        block: the shape of a block.
        key: the shape of the block's key of random bits: (), or (rows, 1) where its rows are of different leaves.
        masked: whether blocks are told which of their elements lie in the leaf.

    Attributes:
        traced: the step of a block, as a traced function.
        known: of `Traced.scalars`.
        grouped: for each array of a leaf (gradient, parameter, stored slots, residual) whether it has a number for each
            group instead of one for each element; a block of it then has one column.
        block: the shape of a block.
    """

    def __init__(
        self, step: Step, total: Any, block: tuple[int, int], key: tuple[int, ...] = (), masked: bool = False
    ) -> None:
        self.block = block
        self._blocks = [x is not None for x in _own(step, of_blocks=True)]
        self.grouped = [each for each, of_blocks in zip(_grouped(step), self._blocks, strict=True) if of_blocks]
        tree = jax.tree.structure(brought(step)._replace(key=None))
        dtypes = [x.dtype for x in _own(step, of_blocks=True) if x is not None]
        shapes = [(block[0], 1) if each else block for each in self.grouped]
        blocks = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        inside = jax.ShapeDtypeStruct(block, jnp.bool_) if masked else None

        def of_block(own: Any, shared: SharedInputs, total: Any, of_leaf: list[Any]) -> StepResult:
            blocks, key, index, inside = own
            arrays, scalars = iter(blocks), iter(of_leaf)
            mine = tree.unflatten([next(arrays if of_blocks else scalars) for of_blocks in self._blocks])
            here = with_brought(step, mine._replace(key=key), shared, index)
            fields = {field.name: getattr(here, field.name) for field in dataclasses.fields(Step)}
            return _BlockStep(**fields, inside=inside).apply(total)

        own = blocks, jax.ShapeDtypeStruct(key, jnp.uint32), jax.ShapeDtypeStruct(block, jnp.uint32), inside
        self.known: dict[Hashable, Any] = {}
        self.traced: Traced = trace(of_block, own, step.shared, total, _scalars(step))

    def step(
        self, blocks: Sequence[Array], key: Array, index: Array, inside: Array | None, scalars: Scalars
    ) -> list[Array]:
        """The new blocks of all arrays but the gradient."""
        own = [*blocks, key.astype(jnp.uint32), index, *([] if inside is None else [inside])]
        types = self.traced.inside.in_avals[len(own) :]
        results = in_dialect(self.traced.inside)(*own, *scalars.read(types))
        return [x for x, of_blocks in zip(results, self._blocks[1:], strict=False) if of_blocks]

    def vectors(self, scalars: Sequence[Array]) -> Scalars:
        """The scalars in vectors, which are those of other programs if these read the same."""
        key = ("vectors", *map(id, scalars))
        if key not in self.known:
            self.known[key] = Scalars.of(scalars), scalars  # whose ids stay
        return self.known[key][0]

    def scalars(self, step: Step) -> list[Array]:
        """The scalars that a leaf's blocks read; the same for all leaves, and computed once, if no slot is a scalar."""
        if of_leaf := _scalars(step):
            return self.traced.scalars(of_leaf, self.known)
        return self._shared_scalars

    @functools.cached_property
    def _shared_scalars(self) -> list[Array]:
        return self.traced.scalars(known=self.known)

    def operands(self, step: Step) -> list[Array]:
        """The arrays of a leaf that are cut into blocks: the gradient and those that the step changes."""
        return [jnp.asarray(x) for x in _own(step, of_blocks=True) if x is not None]

    def results(self, new: Sequence[Array], scalars: Sequence[Array]) -> StepResult:
        """The results of a leaf's step, from the new arrays and the scalars that the blocks read."""
        from jax.extend.core import Literal  # `jax.extend` imports Pallas

        made = dict(zip(self.traced.inside.jaxpr.invars[-len(scalars) :], scalars, strict=True)) if scalars else {}
        arrays, found = iter(new), []
        for v, of_blocks in zip(self.traced.inside.jaxpr.outvars, self._blocks[1:], strict=False):
            if of_blocks:
                found.append(next(arrays))
            elif isinstance(v, Literal):
                aval: Any = v.aval
                found.append(jnp.asarray(v.val, aval.dtype))
            else:
                found.append(made[v])
        return self.traced.structure.unflatten(found)


def share_code(programs: Sequence[BlockProgram], known: dict[Hashable, Any]) -> list[int]:
    """Have programs that differ in numbers only read these; a number for each, equal where their code is.

    `known` is of `Traced.scalars`.
    """
    for program, traced in zip(programs, with_shared_code([program.traced for program in programs]), strict=True):
        program.traced, program.known = traced, known
    return [id(program.traced.inside) for program in programs]


def types(arrays: Sequence[Array]) -> list[jax.ShapeDtypeStruct]:
    """Shapes, dtypes and, under `jax.shard_map`, the mesh axes that the arrays vary over."""
    return jax.eval_shape(lambda *xs: list(xs), *arrays)


def _grouped(step: Step) -> list[bool]:
    """For each array of a leaf, in the order of `brought`, whether it has a number for each group."""
    of_slots = [
        i > 0 and form.group > 0
        for form, stored in zip(step.formats, step.leaf.stored, strict=True)
        for i in range(len(jax.tree.leaves(stored)))
    ]
    return [False, False, *of_slots, *(False for x in (step.leaf.residual, step.noise.part) if x is not None)]


def has_scalars(step: Step) -> bool:
    """Whether a leaf has numbers of its own: a slot that is one number, or its place in a whole leaf."""
    return any(x is not None for x in _own(step, of_blocks=False))


def _own(step: Step, of_blocks: bool) -> list[Any]:
    """The arrays of a leaf, with `None` for scalars, which are not cut into blocks; or the other way round."""
    shape, leaf = jnp.shape(step.leaf.g), step.leaf
    cut = [
        jnp.shape(x) != () if shape else of_elements(slot)
        for slot, stored in zip(step.layout.slots, leaf.stored, strict=True)
        for x in jax.tree.leaves(stored)
    ]
    arrays = jax.tree.leaves(brought(step)._replace(key=None))
    cut = [True, True, *cut, *([] if leaf.residual is None else [True]), *([] if step.noise.part is None else [False])]
    return [x if each == of_blocks else None for x, each in zip(arrays, cut, strict=True)]


def _scalars(step: Step) -> list[Array]:
    return [x for x in _own(step, of_blocks=False) if x is not None]


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
