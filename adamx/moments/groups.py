"""What coded slots need to know of their groups: the largest of integers, found for all slots at once."""

from collections.abc import Sequence

import jax
import numpy as np

from .._annotations import Array
from .format import Format


def group_largest(
    chosen: Sequence[Format], values: Sequence[Array | None], units: Sequence[Array | None]
) -> list[tuple[Array, ...]]:
    """For each slot the largest of its format's `sizes` in each group; the slots have these values and units."""
    sizes = [() if x is None else form.sizes(x, unit) for form, x, unit in zip(chosen, values, units, strict=True)]
    found = iter(largest_of([x for each in sizes for x in each]))
    return [tuple(next(found) for _ in each) for each in sizes]


def largest_of(sizes: Sequence[Array]) -> tuple[Array, ...]:
    """The largest of each array in each group, (..., groups, elements) to (..., groups, 1).

    In one reduction, as XLA's CPU compiler makes a loop for each.
    """
    if not sizes:
        return ()
    first = tuple(np.int32(0) for _ in sizes)
    both = lambda a, b: tuple(jax.lax.max(x, y) for x, y in zip(a, b, strict=True))  # noqa: E731
    return tuple(x[..., None] for x in jax.lax.reduce(tuple(sizes), first, both, (sizes[0].ndim - 1,)))
