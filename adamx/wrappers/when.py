"""A step that is taken or not, as a traced boolean says: in place, and without moving memory where it is not."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .._annotations import Array

Carry = TypeVar("Carry")


def when(ok: Any, take: Callable[..., Carry], carry: Carry, *inputs: Any) -> Carry:
    """`take(carry, *inputs)` if `ok`, else `carry`; in the memory of `carry` if that may be written over.

    It is a loop of at most one round: XLA copies what goes into and comes out of a `lax.cond` on GPUs, and on CPUs what
    its other branch returns. The barrier keeps it from computing what depends on `inputs` alone before the loop. As of
    every such loop, a program has no derivatives of it in reverse mode.

    Args:
        ok: a boolean, shape ().
        take: returns what has the tree, shapes and dtypes of `carry`.
        carry: a tree of arrays.
        *inputs: trees of arrays that `take` reads.
    """
    if not isinstance(ok, Tracer):  # eager, where each loop would be compiled by itself
        return take(carry, *inputs) if ok else carry

    def once(now: tuple[Array, Carry]) -> tuple[Array, Carry]:
        read, _ = jax.lax.optimization_barrier((inputs, now[0]))
        return now[0] & False, take(now[1], *read)

    return jax.lax.while_loop(lambda now: now[0], once, (ok, jax.tree.map(jnp.asarray, carry)))[1]
