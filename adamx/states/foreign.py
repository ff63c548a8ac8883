"""Optax's states as adamx's, and back: a run goes on in the other library as if it had begun there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Params
from .._engine import State
from .._transform import Optimizer
from .._variables import without_variables
from .filling import Kept, Leaf, filled, kept_by, spread, translated
from .packing import unpack_state
from .parts import Place, begin, children, copied, is_state, nodes, walk

COUNTERS = {"count": 0, "count_m2": 0, "t": 0, "step_count": 1}
"""Fields in which Optax counts steps, and where each begins."""


def from_optax(opt: Any, optax_state: Any, params: Params, *, count: Any = None) -> Any:
    """The state with which `opt` goes on where an Optax optimizer stopped.

    Optax's state does not say its hyperparameters: give `opt` the same. All adamx optimizers whose slots Optax keeps,
    too, can take over, whatever formats they store them in: the family of Adam, AMSGrad (`max_of="corrected"`), AdaMax,
    AdaBelief, Yogi, RAdam, Lion, AdaGrad, RMSProp, AdaDelta, NovoGrad, Adafactor, LAMB, Adan (whose steps differ from
    Optax's, see `adamx.Adan`), ADOPT, AdEMAMix in both forms, schedule-free, Prodigy, D-Adapt; and modifiers of them.

    Args:
        opt: an adamx optimizer, or an Optax transformation with one or more in it. What wraps it (`optax.MultiSteps`,
            `inject_hyperparams`, `masked`, `partition`, `apply_if_finite` ...) takes over the state of the same
            wrapper; wrappers without a state may differ, and pieces that Optax chains may be one optimizer here.
        optax_state: the state from Optax, of arrays or NumPy arrays; from a checkpoint as it is restored into
            `tx.init(params)`.
        params: the parameters, as they are to be stepped. For weights="split8" and the like of a run in float32, move
            it to an optimizer without `moments` and `weights`, and then by `adamx.from_master(params, opt, state=...)`.
        count: the number of finished steps, where Optax counts none (AdaGrad, AdaDelta, RMSProp without a schedule), or
            where its counts differ.

    Returns:
        The state, of the types that `opt.init(params)` has.

    Raises:
        ValueError: an array has another shape than `opt` has a slot for, or no place in it; the state is of another
            optimizer or another wrapper; the count is missing. The message names the leaf.

    >>> import adamx, jax.numpy as jnp, optax
    >>> params = {"w": jnp.array([1.0, -2.0])}
    >>> tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.5))
    >>> saved = optax.tree.set(tx.init(params), count=jnp.asarray(100), mu={"w": jnp.array([0.3, 0.4])})
    >>> opt = optax.chain(optax.clip_by_global_norm(1.0), adamx.adamw(0.5))
    >>> _, state = adamx.from_optax(opt, saved, params)
    >>> int(state.count), state.slots.mu
    (100, {'w': Array([0.3, 0.4], dtype=float32)})
    """
    begun, places, structure = begin(opt, params)

    def adopt(ours: Any, theirs: Any, at: str) -> tuple[Any, Any]:
        return _adopted(places[int(ours.count)], theirs, at, count), theirs

    def copy(ours: Any, theirs: Any, at: str) -> tuple[Any, Any]:
        return copied(ours, theirs, at), theirs

    new, _ = walk(begun, without_variables(optax_state), "optax_state", adopt, copy)
    return structure.unflatten(jax.tree.leaves(new))


def to_optax(opt: Any, state: Any, tx: Any, params: Params) -> Any:
    """The state with which the Optax transformation `tx` goes on where `opt` stopped: the inverse of `from_optax`.

    Args:
        opt: the adamx optimizer, or the transformation with it in it.
        state: its state, in any formats.
        tx: the same optimizer of Optax; its state may be stored in fewer digits.
        params: the parameters that `tx` will step: of narrow weights with residuals `adamx.master_params`.

    Returns:
        A state of the types that `tx.init(params)` has.

    Raises:
        ValueError: `tx` keeps an array that `opt` does not, or the other way round.

    >>> import adamx, jax.numpy as jnp, optax
    >>> params = {"w": jnp.array([1.0, -2.0])}
    >>> opt, tx = adamx.adam(0.5), optax.adam(0.5)
    >>> params, state = opt.step(params, opt.init(params), params)
    >>> adamx.to_optax(opt, state, tx, params)[0].mu
    {'w': Array([ 0.1, -0.2], dtype=float32)}
    """
    _, places, _ = begin(opt, params)
    own, theirs = without_variables(state), tx.init(params)
    states = [x for x in jax.tree.leaves(own, is_leaf=is_state) if is_state(x)]
    if len(states) != len(places):
        raise ValueError(f"there are {len(states)} adamx states in state, and {len(places)} in that of opt")
    place_of = dict(zip(map(id, states), places, strict=True))

    def lend(ours: Any, theirs: Any, at: str) -> tuple[Any, Any]:
        return ours, _lent(place_of[id(ours)], ours, theirs, at)

    def copy(ours: Any, theirs: Any, at: str) -> tuple[Any, Any]:
        return ours, copied(theirs, ours, at)

    _, new = walk(own, without_variables(theirs), "tx.init(params)", lend, copy)
    return jax.tree.structure(theirs).unflatten(jax.tree.leaves(new))


def _adopted(place: Place, theirs: Any, at: str, count: Any) -> State:
    """The state of `place` with what Optax keeps in `theirs`."""
    kept, parts = kept_by(place, "optax_slots", "Optax"), [*nodes(theirs, at)]
    leaves = _leaves.flatten(place.params, "params")
    likes, _ = place.engine.rows(leaves, place.like)
    found: list[list[Leaf | None]] = []
    used: set[int] = set()
    for i, slot in enumerate(kept):
        found.append([None] * len(likes))
        if any(row[i] is not None for row in likes):
            tree, where = _field(place, i, slot, parts, at)
            used |= {id(x) for x in jax.tree.leaves(tree)}
            found[i] = spread(leaves, tree, where)
    _refuse_left_over(theirs, used, at, "adamx's optimizer")
    return filled(place, kept, found, _counted(parts, at) if count is None else count)


def _lent(place: Place, ours: State, theirs: Any, at: str) -> Any:
    """`theirs` with what `ours`, a state of `place`, keeps."""
    kept, parts, engine = kept_by(place, "optax_slots", "Optax"), [*nodes(theirs, at)], place.engine
    leaves = _leaves.flatten(place.params, "params")
    dense = unpack_state(Optimizer(engine.init, engine.update), ours, place.params)
    rows = [translated(place, [k and k.theirs for k in kept], row) for row in engine.rows(leaves, dense)[0]]
    new: dict[tuple[str, str], Any] = {
        (type(x).__name__, name): jnp.asarray(ours.count) + first
        for x, _ in parts
        for name, first in COUNTERS.items()
        if name in x._fields
    }
    used: set[int] = set()
    for i, slot in enumerate(kept):
        column = [row[i] for row in rows]
        if any(x is not None for x in column):
            tree, where = _field(place, i, slot, parts, at)
            used |= {id(x) for x in jax.tree.leaves(tree)}
            new[tuple(slot.name.split("."))] = _cast(column, spread(leaves, tree, where), tree)
    _refuse_left_over(theirs, used, at, "adamx's optimizer")
    return _replaced(theirs, new)


def _field(place: Place, i: int, slot: Kept | None, parts: list[tuple[Any, str]], at: str) -> tuple[Any, str]:
    """What Optax keeps for the slot of index `i`, and its path."""
    name = place.engine.layout.names[i]
    if slot is None:
        raise ValueError(f"Optax keeps no {name}, which this optimizer keeps for these parameters")
    kind, field = slot.name.split(".")
    found = [(getattr(x, field), f"{where}.{field}") for x, where in parts if type(x).__name__ == kind]
    if len(found) != 1:
        kinds = ", ".join(dict.fromkeys(type(x).__name__ for x, _ in parts if jax.tree.leaves(x))) or "nothing"
        raise ValueError(
            f"{name} is kept by Optax in a {kind}, of which {at} has {len(found)}, besides {kinds}: give the "
            "state of the same optimizer, in the types that `tx.init(params)` makes, and wrap several alike"
        )
    return found[0]


def _refuse_left_over(theirs: Any, used: set[int], at: str, who: str) -> None:
    for path, x in jax.tree_util.tree_flatten_with_path(theirs)[0]:
        if id(x) not in used and jnp.size(x) > 1 and jnp.issubdtype(x.dtype, jnp.inexact):
            raise ValueError(
                f"{at}{jax.tree_util.keystr(path)}, {x.dtype}{list(x.shape)}, has no place in the state of {who}: give "
                "the same optimizer, with the same options and in the same wrappers"
            )


def _counted(parts: list[tuple[Any, str]], at: str) -> Any:
    """The number of finished steps, on which all counts have to agree."""
    counts = {
        f"{where}.{name}": np.asarray(getattr(x, name)) - first
        for x, where in parts
        for name, first in COUNTERS.items()
        if name in x._fields
    }
    if not counts:
        raise ValueError(f"{at} counts no steps: give their number, from_optax(..., count=...)")
    if len({int(x) for x in counts.values()}) > 1:
        told = ", ".join(f"{where} says {x}" for where, x in counts.items())
        raise ValueError(
            f"{told}, but one count is all steps' here: give it, from_optax(..., count=...), and shift schedules"
        )
    return next(iter(counts.values()))


def _cast(column: list[Any], found: list[Leaf | None], tree: Any) -> Any:
    """`tree` with the arrays of `column`; where there is none it stays."""
    new: list[Any] = []
    for x, was in zip(column, found, strict=True):
        if x is not None and was is not None and x.shape != jnp.shape(was.x):
            raise ValueError(
                f"{was.at} has shape {jnp.shape(was.x)}, and adamx's slot {x.shape}: give the same options"
            )
        new.append(None if was is None else was.x if x is None else x.astype(was.x.dtype))
    if jax.tree_util.all_leaves([tree]):  # one number for all leaves
        return new[0]
    return jax.tree.unflatten(jax.tree.structure(tree, is_leaf=_leaves.is_none), new)


def _replaced(x: Any, new: dict[tuple[str, str], Any]) -> Any:
    """`x` with fields of its NamedTuples replaced, by type and name."""
    parts, structure = children(x)
    if parts.get("") is x:
        return x
    x = structure.unflatten([_replaced(part, new) for part in parts.values()])
    fields = {name: value for (kind, name), value in new.items() if kind == type(x).__name__}
    return x._replace(**fields) if fields else x
