"""A state filled with arrays that another library has kept."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Array
from .._engine import Engine
from .._layout import encoded, wide_dtype
from .._math import dtype_of
from .._rule import Modifier
from .._state import LogProduct, State, scheduled
from .._weights import Rounding
from ..moments import stored_shape
from ..schedules import first_values
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
            f"{library} has no optimizer that keeps what this {type(rule).__name__} does, {', '.join(layout.names)}: "
            "start with `init(params)`"
        )
    return [Kept(x) if isinstance(x, str) else None if x is None else Kept(*x) for x in declared]


class Found(NamedTuple):
    """An array for a slot of one leaf, and where it was found."""

    x: Any
    at: str


def spread(leaves: _leaves.Leaves, trees: Sequence[tuple[Any, str]]) -> list[Found]:
    """The array for each leaf, from trees with their paths; one array by itself is every leaf's."""
    found: dict[str, Found] = {}
    for tree, at in trees:
        pairs = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_leaves.is_none)[0]
        if len(pairs) == 1 and not pairs[0][0]:
            return [
                Found(jnp.array(tree), at) for _ in leaves.paths
            ]  # buffers of their own: one can't be donated twice
        found |= {name: Found(x, at + name) for path, x in pairs for name in [_leaves.show("", path)]}
    wanted = {_leaves.show("", path): x for path, x in zip(leaves.paths, leaves.arrays, strict=True)}
    for name in (*wanted, *found):
        if name not in found and wanted[name] is not None:
            at = ", ".join(at for _, at in trees)
            raise ValueError(f"{at} has nothing for params{name}: give the parameters that the state is of")
        if name not in wanted:
            raise ValueError(f"{found[name].at} is of no parameter: give the parameters that the state is of")
    return [found.get(name, Found(None, name)) for name in wanted]


def filled(
    place: Place, kept: list[Kept | None], found: Sequence[Sequence[Found | None]], count: Any, live: Any = ()
) -> State:
    """The state of `place` with these arrays in its slots, each in its format, and these live numbers, by name."""
    engine = place.engine
    leaves = _leaves.flatten(place.params, "params")
    likes, residuals = engine.rows(leaves, place.like._replace(count=count))
    members = engine.members_of(leaves)
    rows, count = [], jnp.asarray(count, place.like.count.dtype)
    for j, (path, p, like) in enumerate(zip(leaves.paths, leaves.arrays, likes, strict=True)):
        row: list[Any] = [None] * len(like)
        layout = members[j].layout
        for i, x in enumerate(like):
            if x is not None:
                name = f"{layout.names[i]} of {_leaves.show('params', path)}"
                y = _fitted(found[i][j], stored_shape(x), layout.dtype(i, wide_dtype(p)), name)
                # Optax's start of the weights may be the weights themselves, which are donated beside the state.
                row[i] = jnp.array(y) if layout.slots[i].like_weights else y
        if p is not None:
            row, noise = translated(place, [k and k.ours for k in kept], row), engine.noise(path, count)
            forms = layout.formats_of(jnp.shape(p), [None if x is None else x.shape for x in row], wide_dtype(p))
            if any(form.code for form in forms):
                row = encoded(layout, tuple(forms), row, noise.key, noise.step)
            else:
                row = layout.encode(row, forms, noise)
        rows.append(row)
    if any(r is not None for r in residuals):
        kept_beside = leaves.rebuild(
            [
                None if p is None or r is None else cast(Rounding, member.rounding).start(p)
                for p, r, member in zip(leaves.arrays, residuals, members, strict=True)
            ]
        )
    else:
        kept_beside = ()
    numbers = first_values(engine.schedules)
    numbers = {name: jnp.asarray(dict(live).get(name, x), x.dtype) for name, x in dict(numbers).items()} or ()
    return State(count, engine.slots(leaves, rows), products_until(engine, count, numbers), kept_beside, numbers)


def _fitted(found: Found | None, shape: tuple[int, ...], dtype: np.dtype, name: str) -> Array:
    x, at = found or (None, "the state")
    kinds = (jnp.floating, jnp.complexfloating) if dtype.kind == "c" else (jnp.floating,)
    if x is None or jnp.shape(x) != shape or not any(jnp.issubdtype(dtype_of(x), kind) for kind in kinds):
        form = "None" if x is None else f"{dtype_of(x).name}{list(jnp.shape(x))}"
        raise ValueError(
            f"{at} is {form}, but {name} is {dtype.name}{list(shape)}: the state is of other parameters, or of an "
            "optimizer with other options"
        )
    return jnp.asarray(x).astype(dtype)


def translated(place: Place, to: list[Callable[[Any], Array] | None], row: list[Any]) -> list[Any]:
    """The slots of one leaf, some replaced by functions of all."""
    layout = place.engine.layout
    apart = layout.apart and any(x is not None and jnp.iscomplexobj(x) for x in row)
    row = layout.parts(row) if apart else row
    slots = layout.tree.unflatten(row)
    new = [x if f is None or x is None else f(slots) for x, f in zip(row, to, strict=True)]
    return layout.wholes(new) if apart else new


def products_until(engine: Engine, count: Array, numbers: Any) -> dict[str, LogProduct]:
    """The products of the decay rates that follow schedules, up to step `count`, with these live numbers."""
    zeros = {path: LogProduct(jnp.zeros([], float), jnp.zeros([], float)) for path in sorted(engine.varying)}
    if not zeros:
        return zeros

    def add(finished: Array, so_far: Any) -> Any:
        return scheduled(engine.rule, State(finished, (), so_far, live=numbers))[1]

    return jax.lax.fori_loop(0, count, add, zeros)
