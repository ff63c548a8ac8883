"""Sums over the arrays of a step, for diagnostics: a table with a row for each leaf."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import jax.numpy as jnp
import numpy as np

from .._annotations import Array
from .backend import Summed
from .lowering import Branch, Branches, by_platform
from .manual import is_manual, varying_alike
from .partial_sums import Reduction, reduced


class Reference(Protocol):
    """Computes a table for all leaves on all platforms; hashable.

    Attributes:
        width: the number of columns.
        separate: computes the same by reductions of one array each, which XLA can partition.
    """

    @property
    def width(self) -> int: ...  # noqa: D102

    @property
    def separate(self) -> "Reference": ...  # noqa: D102

    def __call__(self, leaves: Sequence[Summed], numbers: Array, sums: int) -> Array: ...  # noqa: D102


Adding: TypeAlias = tuple[tuple[tuple[str, ...] | None, bool, Callable[..., Array]], ...]


class Table(NamedTuple):
    """A table as a function of flat arrays: one like the result, the numbers, the arrays of the leaves.

    Attributes:
        adding: what computes it for plain leaves: on which platforms, whether in programs for one platform only, how.
        kinds: of each leaf `Summed.given`, `Summed.plain`, and the number of its arrays.
        reference: what computes it where nothing else does.
    """

    adding: Adding
    kinds: tuple[tuple[int, bool, int], ...]
    reference: Callable[..., Array]

    def __call__(self, like: Array, numbers: Array, *arrays: Array) -> list[Array]:
        """The table, as the only result."""
        rest, width = iter(arrays), like.shape[1]
        leaves = [Summed(given, [next(rest) for _ in range(n)], plain) for given, plain, n in self.kinds]
        mine = [i for i, leaf in enumerate(leaves) if leaf.plain and self.adding]
        others = [i for i in range(len(leaves)) if i not in mine]
        rows = [self._by_platform([leaves[i] for i in mine], numbers, width)] if mine else []
        if others:
            rows.append(self.reference([leaves[i] for i in others], numbers, width))
        return [jnp.concatenate(rows)[np.argsort([*mine, *others])]]

    def _by_platform(self, leaves: Sequence[Summed], numbers: Array, width: int) -> Array:
        kinds = tuple((leaf.given, leaf.plain, len(leaf.arrays)) for leaf in leaves)
        arrays = [jnp.zeros((len(leaves), width), jnp.float32), numbers, *(x for leaf in leaves for x in leaf.arrays)]
        if is_manual():
            arrays = varying_alike(arrays)
        ways = [Branch(on, Table((), kinds, add), alone, None) for on, alone, add in self.adding]
        ways.append(Branch.of(None, Table((), kinds, self.reference)))
        return by_platform(Branches("xla", tuple(ways), 1), arrays)[0]


def _same(table: Array) -> Array:
    return table


def summed(
    adding: Adding,
    leaves: Sequence[Summed],
    numbers: Array,
    sums: int,
    reference: Reference,
    axis_names: Sequence[str],
) -> Array:
    """A table of so many sums, and largest values after them; by parts where leaves are cut."""
    table = Table(adding, tuple((leaf.given, leaf.plain, len(leaf.arrays)) for leaf in leaves), reference)
    places = [i for i, leaf in enumerate(leaves) for _ in leaf.arrays]
    by_parts = Reduction(table, (None, None, *places), sums, _same)
    by_xla = table._replace(adding=(), reference=reference.separate)
    like = jnp.zeros((len(leaves), reference.width), jnp.float32)
    return reduced(table, by_parts, by_xla, [like, numbers, *(x for leaf in leaves for x in leaf.arrays)], axis_names)
