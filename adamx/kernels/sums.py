"""What a step did to its leaves, as sums over their elements, in C++ (`sums.cc`): for `adamx.diagnostics`."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Array
from .calls import SMALL, SUMS, VERSION, is_manual, together, varying, varying_alike

# The numbers of sums.cc's enumeration.
MOMENTS, SQUARE = 1, 2


class Told(NamedTuple):
    """One leaf, as the kernel takes it.

    Attributes:
        given: whether there are moments, and whether the second one's root is meant.
        arrays: gradient, weights before and after, both moments if there are; float32, of one size.
    """

    given: int
    arrays: list[Array]


def told(leaves: Mapping[int, Told], numbers: Array, sums: int) -> list[tuple[list[int], Array]]:
    """Call by call, which leaves they are and their rows of sums, float32, (leaves of the call, sums)."""
    manual, places = is_manual(), list(leaves)

    def kind(leaf: Told) -> Hashable:
        return leaf.given, varying(leaf.arrays) if manual else None

    calls = together([None if leaf.arrays[0].size > SMALL else kind(leaf) for leaf in leaves.values()])
    named = [[places[i] for i in call] for call in calls]
    return [(call, _call([leaves[i] for i in call], numbers, sums)) for call in named]


def _call(leaves: Sequence[Told], numbers: Array, sums: int) -> Array:
    operands = [numbers, *(x for leaf in leaves for x in leaf.arrays), jnp.zeros((len(leaves), sums), jnp.float32)]
    if is_manual():
        operands = varying_alike(operands)
    *operands, result = operands
    call = jax.ffi.ffi_call(SUMS, result, vmap_method="broadcast_all")
    return call(*operands, version=VERSION, given=leaves[0].given)
