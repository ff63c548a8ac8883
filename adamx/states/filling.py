"""A state filled with arrays that another library has kept."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Array
from .._engine import State, resolved
from .._layout import wide_dtype
from .._rule import Modifier
from .._transform import Optimizer
from ..moments import stored_shape
from .packing import pack_state
from .parts import Place


class Kept(NamedTuple):
    """Where another library keeps a slot, as a rule declares it.

    Attributes:
        name: the type of the state and its field, "ScaleByAdamState.mu", or the field alone.
        ours: the slot as a function of what is kept, in the slots' places; `None` if it is kept as it is.
        theirs: the inverse, a function of the slots.
    """

    name: str
    ours: Callable[[Any], Array] | None = None
    theirs: Callable[[Any], Array] | None = None


def kept_by(place: Place, attribute: str, library: str) -> list[Kept | None]:
    """Where `library` keeps each slot, as the rule declares it in `attribute`."""
    rule, layout = place.engine.rule, place.engine.layout
    while isinstance(rule, Modifier) and getattr(rule, attribute) is None:
        rule = rule.rule
    declared = getattr(rule, attribute)
    if declared is None or len(declared) != len(layout.slots):
        raise ValueError(
            f"{library} has no optimizer that keeps what {type(rule).__name__} does, {', '.join(layout.names)}: start "
            "with `init(params)`"
        )
    return [Kept(x) if isinstance(x, str) else None if x is None else Kept(*x) for x in declared]


class Leaf(NamedTuple):
    """An array for a slot of one leaf, and where it was found."""

    x: Any
    at: str


def spread(leaves: _leaves.Leaves, tree: Any, at: str) -> list[Leaf | None]:
    """The array of `tree` for each leaf; one array by itself is every leaf's."""
    pairs = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_leaves.is_none)[0]
    if len(pairs) == 1 and not pairs[0][0]:
        return [Leaf(tree, at)] * len(leaves.paths)
    found = {_leaves.show("", path): x for path, x in pairs}
    for path in (_leaves.show("", path) for path in leaves.paths):
        if path not in found:
            raise ValueError(f"{at} has nothing for params{path}: give the parameters that the state is of")
    names = {_leaves.show("", path) for path in leaves.paths}
    for path in found:
        if path not in names:
            raise ValueError(f"{at}{path} is of no parameter: give the parameters that the state is of")
    return [
        None if (x := found[name]) is None else Leaf(x, at + name)
        for name in (_leaves.show("", path) for path in leaves.paths)
    ]


def filled(place: Place, kept: list[Kept | None], found: list[list[Leaf | None]], count: Any) -> State:
    """The state of `place` with these arrays in its slots, each in its format."""
    engine, layout = place.engine, place.engine.layout
    leaves = _leaves.flatten(place.params, "params")
    likes, residuals = engine.rows(leaves, place.like)
    rows, count = [], jnp.asarray(count, place.like.count.dtype)
    for j, (path, p, like) in enumerate(zip(leaves.paths, leaves.arrays, likes, strict=True)):
        row: list[Any] = [None] * len(like)
        for i, x in enumerate(like):
            if x is not None:
                name = f"{layout.names[i]} of {_leaves.show('params', path)}"
                row[i] = _fitted(found[i][j], stored_shape(x), layout.dtype(i, wide_dtype(p)), name)
        rows.append(translated(place, [k and k.ours for k in kept], row))
    starts = [None if r is None else engine.rounding.start(p) for p, r in zip(leaves.arrays, residuals, strict=True)]
    state = State(
        count,
        engine.slots(leaves, rows),
        _products(place, count),
        leaves.rebuild(starts) if jax.tree.leaves(place.like.residuals) else (),
    )
    return pack_state(Optimizer(engine.init, engine.update), state, place.params)


def _fitted(found: Leaf | None, shape: tuple[int, ...], dtype: np.dtype, name: str) -> Array:
    wanted = f"{name} is {dtype.name}{list(shape)}"
    cure = "the state is of other parameters, or of an optimizer with other options"
    if found is None:
        raise ValueError(f"the state has nothing for it, but {wanted}: {cure}")
    x = jnp.asarray(found.x)
    if x.shape != shape or not jnp.issubdtype(x.dtype, jnp.inexact) or (jnp.iscomplexobj(x) and dtype.kind != "c"):
        raise ValueError(f"{found.at} is {x.dtype.name}{list(x.shape)}, but {wanted}: {cure}")
    return x.astype(dtype)


def translated(place: Place, to: list[Callable[[Any], Array] | None], row: list[Any]) -> list[Any]:
    """The slots of one leaf, some replaced by functions of all."""
    layout = place.engine.layout
    apart = layout.apart and any(x is not None and jnp.iscomplexobj(x) for x in row)
    row = layout.parts(row) if apart else row
    slots = layout.tree.unflatten(row)
    new = [x if f is None or x is None else f(slots) for x, f in zip(row, to, strict=True)]
    return layout.wholes(new) if apart else new


def _products(place: Place, count: Array) -> Any:
    """The products of the decay rates that follow schedules, up to step `count`."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), place.like.log_products)
    if not zeros:
        return zeros
    return jax.lax.fori_loop(
        0, count, lambda i, so_far: resolved(place.engine.rule, State(i, (), so_far), i + 1)[1], zeros
    )
