"""What the kernels of all devices share: a leaf seen as a matrix of blocks, and the step of one block.

The rule is the kernel: a block is decoded, stepped by the rule's own `step`, encoded. Scalars that do not depend on
the block, such as bias corrections, are computed once, outside of the kernel, and enter it in two vectors.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._annotations import Array
from ..._leaf import SharedInputs, Step, StepResult
from ..traced import brought, trace, with_brought
from .dialect import in_dialect


class View(NamedTuple):
    """A leaf as a matrix, and the blocks that a kernel cuts it into.

    Elements of a group stand side by side in a row, and a block is as wide as a group where there are groups.

    Attributes:
        rows: of the matrix.
        columns: of the matrix.
        block: the shape of a block.
    """

    rows: int
    columns: int
    block: tuple[int, int]

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


class Scalars(NamedTuple):
    """The scalars of a step in three vectors, or references to them: kernels take no scalars of different dtypes.

    Attributes:
        floats: float32.
        integers: int32; unsigned ones by their bits, booleans as 0 and 1.
        key: the leaf's key of the random bits, int32, by its bits.
    """

    floats: Any
    integers: Any
    key: Any

    @classmethod
    def of(cls, numbers: Sequence[Array]) -> "Scalars":
        """The vectors that hold the numbers, with no key yet."""
        floats = [x.astype(jnp.float32) for x in numbers if _is_float(x)]
        integers = [x.astype(jnp.int32) for x in numbers if not _is_float(x)]
        return cls(jnp.stack(floats or [jnp.float32(0)]), jnp.stack(integers or [jnp.int32(0)]), None)

    def with_key(self, key: Any) -> "Scalars":
        """The vectors for a leaf; `key` is uint32."""
        bits = key.view(np.int32) if isinstance(key, np.generic) else jax.lax.bitcast_convert_type(key, jnp.int32)
        return self._replace(key=jnp.reshape(bits, 1))

    def read(self, like: Sequence[Array]) -> tuple[list[Array], Array]:
        """The numbers, in the dtypes of `like`, and the key."""
        floats, integers = iter(range(len(like))), iter(range(len(like)))
        found = []
        for x in like:
            if _is_float(x):
                found.append(self.floats[next(floats)].astype(x.dtype))
            else:
                number = self.integers[next(integers)]
                found.append(number != 0 if x.dtype == jnp.bool_ else number.astype(x.dtype))
        return found, self.key[0].astype(jnp.uint32)


class BlockProgram(NamedTuple):
    """The step of one block of any leaf of a kind.

    Attributes:
        grouped: for each array of a leaf (gradient, parameter, stored slots, residual) whether it has a number for each
            group instead of one for each element; a block of it then has one column.
        view: the leaves as matrices.
        scalars: the scalars that it reads, without a key.
        step: takes the blocks of the arrays, row and column of each element, and the scalars; returns the new blocks of
            all arrays but the gradient.
        structure: the tree of the new arrays.
    """

    grouped: list[bool]
    view: View
    scalars: Scalars
    step: Callable[[Sequence[Array], tuple[Array, Array], Scalars], list[Array]]
    structure: Any

    def operands(self, step: Step) -> list[Array]:
        """The arrays of a leaf as matrices."""
        (rows, groups), columns = (self.view.rows, self.view.grid[1]), self.view.columns
        arrays = jax.tree.leaves(brought(step)._replace(key=None))
        return [
            jnp.asarray(x).reshape(rows, groups if each else columns)
            for x, each in zip(arrays, self.grouped, strict=True)
        ]

    def results(self, step: Step, new: Sequence[Array]) -> StepResult:
        """The results of a leaf's step."""
        old = jax.tree.leaves(brought(step)._replace(g=None, key=None))
        return self.structure.unflatten([x.reshape(was.shape) for x, was in zip(new, old, strict=True)])


@dataclasses.dataclass(frozen=True)
class _BlockStep(Step):
    """The step of a block. What lies beyond the end of a row counts as zero in the group that it fills up."""

    inside: Array | None = None

    def compute(self, total: Any) -> tuple[Array, Any]:
        direction, slots = super().compute(total)
        if self.inside is None:
            return direction, slots
        return direction, jax.tree.map(lambda x: jnp.where(self.inside, x, 0), slots)


def group_of(step: Step) -> int:
    """The number of elements in a group of any slot; 0 if none is grouped."""
    return max((form.group for form in step.formats), default=0)


def block_program(step: Step, total: Any, view: View) -> BlockProgram:
    """The step of a block of a leaf, and of any leaf of its kind."""
    grouped = [False, False]
    for form, stored in zip(step.formats, step.leaf.stored, strict=True):
        grouped += [i > 0 and form.group > 0 for i in range(len(jax.tree.leaves(stored)))]
    grouped += [False] * (step.leaf.residual is not None)
    values, tree = jax.tree.flatten(brought(step))
    block = [
        jax.ShapeDtypeStruct((view.block[0], 1 if each else view.block[1]), x.dtype)
        for x, each in zip(values, grouped, strict=False)
    ]
    key, index = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct(view.block, jnp.uint32)
    inside = jax.ShapeDtypeStruct(view.block, jnp.bool_) if view.is_ragged else None

    def of_block(own: Any, shared: SharedInputs, total: Any) -> StepResult:
        arrays, index, inside = own
        here = with_brought(step, tree.unflatten(arrays), shared, index)
        fields = {field.name: getattr(here, field.name) for field in dataclasses.fields(Step)}
        return _BlockStep(**fields, inside=inside).apply(total)

    traced = trace(of_block, ([*block, key], index, inside), step.shared, total)
    function = in_dialect(traced.inside)

    def step_block(blocks: Sequence[Array], place: tuple[Array, Array], scalars: Scalars) -> list[Array]:
        (row, column), (numbers, key) = place, scalars.read(traced.numbers)
        index = jax.lax.bitcast_convert_type(row * view.columns + column, jnp.uint32)
        inside = [column < view.columns] if view.is_ragged else []
        return function(*blocks, key, index, *inside, *numbers)

    return BlockProgram(grouped, view, Scalars.of(traced.numbers), step_block, traced.structure)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
