"""Sums over the arrays of a step, in C++ (`sums.h`)."""

from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..._annotations import Array
from ..backend import Summed
from ..manual import is_manual, varying, varying_alike
from .calls import MAX_SHARED_SIZE, SUMS, together
from .interface import VERSION


def apply(leaves: Sequence[Summed], numbers: Array, sums: int) -> Array:
    """A row of sums for each leaf; float32, (leaves, sums)."""
    manual = is_manual()

    def kind(leaf: Summed) -> Hashable:
        return leaf.given, varying(leaf.arrays) if manual else None

    calls = together([None if leaf.arrays[0].size > MAX_SHARED_SIZE else kind(leaf) for leaf in leaves])
    rows = jnp.concatenate(varying_alike([_call([leaves[i] for i in call], numbers, sums) for call in calls]))
    return rows[np.argsort(np.concatenate(calls))]


def _call(leaves: Sequence[Summed], numbers: Array, sums: int) -> Array:
    operands = [numbers, *(x for leaf in leaves for x in leaf.arrays), jnp.zeros((len(leaves), sums), jnp.float32)]
    if is_manual():
        operands = varying_alike(operands)
    *operands, result = operands
    call = jax.ffi.ffi_call(SUMS, result, vmap_method="broadcast_all")
    return call(*operands, version=VERSION, given=leaves[0].given)
