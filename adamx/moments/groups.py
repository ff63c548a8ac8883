"""What coded slots need to know of their groups: the largest of integers, found for all slots at once."""

from collections.abc import Sequence

import jax
import numpy as np

from .._annotations import Array
from .format import Format


def group_largest(
    chosen: Sequence[Format], values: Sequence[Array | None], units: Sequence[Array | None]
) -> list[tuple[Array, ...]]:
    """For each slot the largest of its format's `sizes` in each group; the slots have these values and units.

    In one reduction for each size of group.
    """
    sizes = [() if x is None else form.sizes(x, unit) for form, x, unit in zip(chosen, values, units, strict=True)]
    alike: dict[int, list[Array]] = {}
    for form, each in zip(chosen, sizes, strict=True):
        alike.setdefault(form.group, []).extend(each)
    found = {group: iter(largest_of(each)) for group, each in alike.items()}
    return [tuple(next(found[form.group]) for _ in each) for form, each in zip(chosen, sizes, strict=True)]


def largest_of(sizes: Sequence[Array]) -> tuple[Array, ...]:
    """The largest of each array in each group, (..., groups, elements) to (..., groups, 1).

    In one reduction, as XLA's CPU compiler makes a loop for each.
    """
    if not sizes:
        return ()
    first = tuple(np.int32(0) for _ in sizes)
    return tuple(x[..., None] for x in jax.lax.reduce(tuple(sizes), first, _larger, (sizes[0].ndim - 1,)))


def _larger(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(jax.lax.max(x, y) for x, y in zip(a, b, strict=True))
