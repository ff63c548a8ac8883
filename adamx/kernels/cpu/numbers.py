"""The numbers that leaves share as a table, a row for each group: what is computed of several is computed of a vector.

The series of a bias correction is then compiled once, of however many decay rates it is taken.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._annotations import Array
from ..traced import as_function


class _Number(NamedTuple):
    """An element of a vector, which is NumPy's if it is known."""

    vector: Any
    place: int

    @property
    def key(self) -> Hashable:
        """Equal for numbers that are the same."""
        return self.vector.tobytes() if isinstance(self.vector, np.ndarray) else (id(self.vector), self.place)

    @property
    def scalar(self) -> Any:
        """The number, shape ()."""
        if self.vector.size == 1:
            return self.vector.reshape(())
        return jax.lax.index_in_dim(self.vector, self.place, keepdims=False)


def table(function: Callable[[], Sequence[Sequence[Any]]]) -> Array:
    """The rows of numbers and scalars that `function` returns, float32; it keeps none of the arrays that it makes."""
    rows: list[Sequence[Any]] = []

    def arrays() -> list[Array]:
        given = function()
        rows[:] = [[None if isinstance(x, jax.Array) else x for x in row] for row in given]
        return [jnp.asarray(x, jnp.float32) for row in given for x in row if isinstance(x, jax.Array)]

    computed = iter(_computed(jax.make_jaxpr(arrays)()))
    known = lambda x: _Number(np.full(1, x, np.float32), 0)  # noqa: E731
    numbers = [next(computed) if x is None else known(x) for row in rows for x in row]
    return _vector(numbers).reshape(len(rows), -1)


def _computed(closed: Any) -> list[_Number]:
    """The results of a traced function of scalars. Calls of one function, and what only they read, are of vectors.

    All else stays of scalars, where XLA multiplies by the inverse of a constant, and reorders constant factors.
    """
    from jax.extend.core import Literal  # `jax.extend` imports Pallas

    jaxpr = closed.jaxpr
    values = {v: _Number(jnp.reshape(x, 1), 0) for v, x in zip(jaxpr.constvars, closed.consts, strict=True)}
    known = lambda literal: _Number(np.full(1, literal.val, literal.aval.dtype), 0)  # noqa: E731
    number = lambda v: known(v) if isinstance(v, Literal) else values[v]  # noqa: E731
    read, alone = {v for v in jaxpr.outvars if not isinstance(v, Literal)}, set[int]()
    for i, eqn in reversed([*enumerate(jaxpr.eqns)]):
        if not _is_call(eqn) and read.intersection(eqn.outvars):
            alone.add(i)
            read.update(v for v in eqn.invars if not isinstance(v, Literal))
    waiting = [*enumerate(jaxpr.eqns)]
    while waiting:
        later, kinds = [], dict[Hashable, list[Any]]()
        for i, eqn in waiting:
            if not all(isinstance(v, Literal) or v in values for v in eqn.invars):
                later.append((i, eqn))
            elif i in alone:
                made = _function(closed, eqn)(*(number(v).scalar for v in eqn.invars))
                values |= zip(eqn.outvars, (_Number(jnp.reshape(x, 1), 0) for x in made), strict=True)
            else:
                told = (x if isinstance(x, Hashable) else id(x) for x in eqn.params.values())
                kinds.setdefault((eqn.primitive, *told, *(number(v).vector.dtype for v in eqn.invars)), []).append(eqn)
        for alike in kinds.values():
            operands = [[number(v) for v in eqn.invars] for eqn in alike]
            places = dict[Hashable, int]()
            mine = [places.setdefault(tuple(x.key for x in row), len(places)) for row in operands]
            columns = zip(*(operands[mine.index(i)] for i in range(len(places))), strict=True)
            made = jax.vmap(_function(closed, alike[0]))(*map(_vector, columns))
            for eqn, place in zip(alike, mine, strict=True):
                values |= zip(eqn.outvars, (_Number(x, place) for x in made), strict=True)
        waiting = later
    return [number(v) for v in jaxpr.outvars]


def _function(closed: Any, eqn: Any) -> Callable[..., list[Array]]:
    """An equation of a traced function, as a function of its operands."""
    from jax.extend.core import Var

    if _is_call(eqn):
        return as_function(eqn.params["jaxpr"])
    given, unnamed = [Var(v.aval) for v in eqn.invars], closed.jaxpr.debug_info.with_unknown_names()
    alone = eqn.replace(invars=given)
    alone = closed.jaxpr.replace(constvars=[], invars=given, outvars=eqn.outvars, eqns=[alone], debug_info=unnamed)
    return as_function(closed.replace(jaxpr=alone, consts=[]))


def _is_call(eqn: Any) -> bool:
    return eqn.primitive.name in ("jit", "pjit")


def _vector(numbers: Sequence[_Number]) -> Array:
    """The numbers, of which one that is there several times enters the program once."""
    known = {x.key: x.vector for x in numbers if isinstance(x.vector, np.ndarray)}
    vectors = {id(x.vector): x.vector for x in numbers if not isinstance(x.vector, np.ndarray)}
    starts = dict(zip(vectors, np.cumsum([len(known), *(x.size for x in vectors.values())]), strict=False))
    at = {x: i for i, x in enumerate(known)}
    places = [at[x.key] if x.key in at else int(starts[id(x.vector)]) + x.place for x in numbers]
    parts = [*([np.concatenate([*known.values()])] if known else []), *vectors.values()]
    whole = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
    if places == [*range(whole.size)]:
        return whole
    return whole[np.asarray(places)] if not vectors else whole.at[np.asarray(places)].get(mode="promise_in_bounds")
