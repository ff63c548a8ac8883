"""The state of a table's rows, and how some of them are read and written."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from .._annotations import Array
from .._state import State


class RowsState(NamedTuple):
    """The state of an optimizer of a table's rows.

    Attributes:
        state: that of the optimizer of the whole table; slots of a row are as its last step left them.
        last: the number of the step that each row was last brought up to; int32, (rows,).
        passed: the running sum that idle steps of a scheduled step size or decay need, now and where each row is:
            pairs of sums and what was lost in them, of shapes () and (rows,); () if none is needed.
    """

    state: State
    last: Array
    passed: Any = ()


class Ticket(NamedTuple):
    """Rows on their way from `Rows.take` to `Rows.put`.

    Attributes:
        ids: the distinct rows, ascending, int32, (ids,); those beyond the table stand for none.
        places: where each of the ids asked for is among them; int32, their shape.
        values: the rows.
        state: their state.
    """

    ids: Array
    places: Array
    values: Array
    state: RowsState


def read(ids: Array, x: Array) -> Array:
    """Rows of an array; a scalar is of all rows."""
    return x.at[ids].get(mode="fill", fill_value=0, **_sorted(x, None)) if x.ndim else x


def write(ids: Array, x: Array, new: Array) -> Array:
    """The inverse of `read`."""
    return x.at[ids].set(new, mode="drop", **_sorted(x, *_spec(x)[:1])) if x.ndim else new


def _sorted(x: Array, *first: Any) -> dict[str, Any]:
    """What is known of the ids; and on axes of AxisType.Explicit, where JAX asks for it, how the result is cut."""
    known: dict[str, Any] = {"unique_indices": True, "indices_are_sorted": True}
    if not any(_spec(x)[:1]):
        return known
    mesh: Any = jax.typeof(x).sharding.mesh
    return known | {"out_sharding": NamedSharding(mesh, PartitionSpec(*first, *_spec(x)[1:]))}


def _spec(x: Array) -> Any:
    cut: Any = jax.typeof(x).sharding
    return cut.spec


def written(
    ids: Array, into: tuple[Array, RowsState], values: Array, own: State, old: RowsState, now: Any
) -> tuple[Array, RowsState]:
    """The table and its state with these rows, which were `old`; `now` is the running sum that they have come to."""
    # Of what was read, as XLA would copy the whole array to write first.
    last = jnp.maximum(old.last, own.count)
    sums = now and (now, jax.tree.map(lambda x, was: jnp.where(old.last < own.count, x, was), now, old.passed[1]))
    return jax.tree.map(functools.partial(write, ids), into, (values, RowsState(own, last, sums)))
