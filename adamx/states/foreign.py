"""Optax's states as adamx's, and back: a run goes on in the other library as if it had begun there."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .. import _leaves
from .._annotations import Params
from .._layout import real_dtype
from .._state import State
from .._transform import Optimizer
from .._variables import without_variables
from ..wrapper import states_in
from ..wrappers.accumulate import AccumulateState
from .filling import Found, Kept, filled, kept_by, spread, translated
from .injected import given_back, taken_over, told_in
from .packing import unpack_state
from .parts import Place, begin, children, copied, nodes, walk

COUNTERS = {"count": 0, "count_m2": 0, "t": 0, "step_count": 1}
"""Fields in which Optax counts steps, and where each begins."""


def from_optax(opt: Any, optax_state: Any, params: Params, *, count: Any = None) -> Any:
    """The state with which `opt` goes on where an Optax optimizer stopped.

    Optax's state does not say its hyperparameters: give `opt` the same. It can take over wherever Optax keeps what it
    does: as Adam in all its forms, AMSGrad (`max_of="corrected"`), AdaMax, AdaBelief, Yogi, RAdam, Lion, AdaGrad,
    RMSProp, AdaDelta, NovoGrad, Adafactor, LAMB, Muon (of matrices), Adan (whose steps are not Optax's, see
    `adamx.Adan`), ADOPT, both AdEMAMix, schedule-free, Prodigy and D-Adapt (with `bias_correction=True`), and modifiers
    that keep nothing. Of `optax.lookahead`, whose slow weights are in the parameters, move the `fast_state`.

    Args:
        opt: an adamx optimizer, or an Optax transformation with one or more in it. What wraps it (`optax.MultiSteps`,
            `inject_hyperparams`, `masked`, `partition`, `apply_if_finite` ...) takes over the state of the same
            wrapper; wrappers without a state may differ, and pieces that Optax chains may be one optimizer here.
            One with groups takes over a `partition`; what is frozen may be masked there. Live numbers, those of groups
            too, are those of `inject_hyperparams`, whose others `opt` has to have alike. `accumulate` goes on from
            `MultiSteps` between two moves: under `jax.jit`, it is for you to see that its `mini_step` is 0. Other
            wrappers of adamx begin anew.
        optax_state: the state from Optax, of arrays or NumPy arrays; from a checkpoint as it is restored into
            `tx.init(params)`.
        params: the parameters, as they are to be stepped. To make narrow weights of a run in float32, move it to the
            optimizer without `moments` and `weights` first, and then by `adamx.from_master(params, opt, state=...)`.
        count: the number of finished steps, where Optax counts none (AdaGrad, AdaDelta, RMSProp without a schedule), or
            where its counts differ.

    Returns:
        The state, of the types that `opt.init(params)` has, sharded as Optax's. Arrays that are stored alike in both
        are shared, not copied.

    Raises:
        ValueError: an array has another shape than `opt` has a slot for, or no place in it; the state is of another
            optimizer or another wrapper; the count is missing; a number of `inject_hyperparams` is another than that
            of `opt`, or would be two or a part of one. The message names the leaf.

    Examples:
        >>> import adamx, jax.numpy as jnp, optax
        >>> params = {"w": jnp.array([1.0, -2.0])}
        >>> tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.5))
        >>> saved = optax.tree.set(tx.init(params), count=jnp.asarray(100), mu={"w": jnp.array([0.3, 0.4])})
        >>> opt = optax.chain(optax.clip_by_global_norm(1.0), adamx.adamw(0.5))
        >>> _, state = adamx.from_optax(opt, saved, params)
        >>> int(state.count), state.slots.mu
        (100, {'w': Array([0.3, 0.4], dtype=float32)})
    """
    begun, places, structure, around = begin(opt, params)
    place_of = dict(zip(map(id, states_in(begun)), places, strict=True))

    def adopt(ours: Any, theirs: Any, at: str) -> tuple[Any, Any]:
        return _adopted(place_of[id(ours)], theirs, at, count), theirs

    def copy(ours: Any, theirs: Any, at: str) -> tuple[Any, Any]:
        return copied(ours, theirs, at), theirs

    new, _ = walk(begun, without_variables(optax_state), "optax_state", adopt, copy, around)
    return structure.unflatten(jax.tree.leaves(new))


def to_optax(opt: Any, state: Any, tx: Any, params: Params) -> Any:
    """The state with which the Optax transformation `tx` goes on where `opt` stopped: the inverse of `from_optax`.

    Args:
        opt: the adamx optimizer, or the transformation with it in it.
        state: its state, in any formats; of `accumulate` between two moves, which under `jax.jit` is not checked.
        tx: the same optimizer of Optax; its state may be stored in fewer digits.
        params: the parameters that `tx` will step: of narrow weights with residuals `adamx.master_params`.

    Returns:
        A state of the types that `tx.init(params)` has.

    Raises:
        ValueError: `tx` keeps an array that `opt` does not, or the other way round; gradients are accumulated; leaves
            have different numbers where `tx` injects one.

    Examples:
        >>> import adamx, jax.numpy as jnp, optax
        >>> params = {"w": jnp.array([1.0, -2.0])}
        >>> opt, tx = adamx.adam(0.5), optax.adam(0.5)
        >>> params, state = opt.step(params, opt.init(params), params)
        >>> adamx.to_optax(opt, state, tx, params)[0].mu
        {'w': Array([ 0.1, -0.2], dtype=float32)}
    """
    _, places, _, around = begin(opt, params)
    own, theirs = without_variables(state), tx.init(params)
    for x, at in nodes(own, "state"):
        if isinstance(x, AccumulateState) and not isinstance(x.position, Tracer) and x.position != 0:
            raise ValueError(f"{at} has gradients of the position {x.position}: move it where that is 0")
    states = states_in(own)
    if len(states) != len(places):
        raise ValueError(f"there are {len(states)} adamx states in state, and {len(places)} in that of opt")
    place_of = dict(zip(map(id, states), places, strict=True))

    def lend(ours: Any, theirs: Any, at: str) -> tuple[Any, Any]:
        return ours, _lent(place_of[id(ours)], ours, theirs, at)

    def copy(ours: Any, theirs: Any, at: str) -> tuple[Any, Any]:
        return ours, copied(theirs, ours, at)

    _, new = walk(own, without_variables(theirs), "tx.init(params)", lend, copy, around)
    return jax.tree.structure(theirs).unflatten(jax.tree.leaves(new))


def _adopted(place: Place, theirs: Any, at: str, count: Any) -> State:
    """The state of `place` with what Optax keeps in `theirs`."""
    kept, parts = kept_by(place, "optax_slots", "Optax"), [*nodes(theirs, at)]
    leaves = _leaves.flatten(place.params, "params")
    likes, _ = place.engine.rows(leaves, place.like)
    found: list[Sequence[Found | None]] = []
    used: set[int] = set()
    for i, slot in enumerate(kept):
        found.append([None] * len(likes))
        if any(row[i] is not None for row in likes):
            trees = _fields(place, i, slot, parts, at)
            used |= {id(x) for tree, _ in trees for x in jax.tree.leaves(tree)}
            found[i] = spread(leaves, trees)
    _refuse_left_over(theirs, used | _old_sums(parts), at)
    live = taken_over(told_in(place, leaves, parts, found))
    return filled(place, kept, found, _counted(parts, at) if count is None else count, live)


def _lent(place: Place, ours: State, theirs: Any, at: str) -> Any:
    """`theirs` with what `ours`, a state of `place`, keeps."""
    kept, parts, engine = kept_by(place, "optax_slots", "Optax"), [*nodes(theirs, at)], place.engine
    leaves = _leaves.flatten(place.params, "params")
    dense = unpack_state(Optimizer(engine.init, engine.update), ours, place.params)
    rows = [translated(place, [k and k.theirs for k in kept], row) for row in engine.rows(leaves, dense)[0]]
    new: dict[str, Any] = {
        f"{where}.{name}": jnp.asarray(ours.count) + first
        for x, where in parts
        for name, first in (COUNTERS | {"gradient_step": 0}).items()
        if name in x._fields
    }
    found: list[list[Found]] = []
    used: set[int] = set()
    for i, slot in enumerate(kept):
        column = [row[i] for row in rows]
        if any(x is not None for x in column):
            trees = _fields(place, i, slot, parts, at)
            used |= {id(x) for tree, _ in trees for x in jax.tree.leaves(tree)}
            found.append(spread(leaves, trees))
            new |= {where: _cast(leaves, column, found[-1], tree) for tree, where in trees}
    _refuse_left_over(theirs, used | _old_sums(parts), at)
    for told in told_in(place, leaves, parts, found):
        if (x := given_back(told, ours)) is not None:
            new[told.at] = jnp.asarray(x, told.x.dtype)
    return _replaced(theirs, new, at)


def _old_sums(parts: list[tuple[Any, str]]) -> set[int]:
    """The ids of Optax's sums of gradients, which are old where a move is finished, and of Muon's constants.

    Raises:
        ValueError: none is.
    """
    used: set[int] = set()
    for x, where in parts:
        if "acc_grads" in x._fields:
            if not isinstance(x.mini_step, Tracer) and x.mini_step != 0:
                raise ValueError(f"{where} has gradients of the mini_step {x.mini_step}: move it where that is 0")
            used |= {id(old) for old in jax.tree.leaves(x.acc_grads)}
        used |= {id(x.ns_coeffs)} if "ns_coeffs" in x._fields else set()
    return used


def _fields(place: Place, i: int, slot: Kept | None, parts: list[tuple[Any, str]], at: str) -> list[tuple[Any, str]]:
    """What Optax keeps as the slot of index `i`, and its path: several trees where it has parted the leaves."""
    name = place.engine.layout.names[i]
    if slot is None:
        raise ValueError(
            f"Optax keeps no {name}, as this optimizer does for weights of less than float32: move float32"
        )
    kind, field = slot.name.split(".")
    found = [(getattr(x, field), f"{where}.{field}") for x, where in parts if type(x).__name__ == kind]
    paths = [path for tree, _ in found for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    if not found or len({*paths}) < len(paths):
        kinds = ", ".join(dict.fromkeys(type(x).__name__ for x, _ in parts if jax.tree.leaves(x))) or "nothing"
        raise ValueError(
            f"{name} is kept by Optax in a {kind}, of which {at} has {len(found)} (it has {kinds}): give the state "
            "of the same optimizer, in the types that `tx.init(params)` makes, and wrap several alike"
        )
    return found


def _refuse_left_over(theirs: Any, used: set[int], at: str) -> None:
    for path, x in jax.tree_util.tree_flatten_with_path(theirs)[0]:
        if id(x) not in used and jnp.size(x) > 1 and jnp.issubdtype(x.dtype, jnp.inexact):
            raise ValueError(
                f"{at}{jax.tree_util.keystr(path)}, {x.dtype}{list(x.shape)}, has no place in the state of "
                "the adamx optimizer: give the same optimizer with the same options, in the same wrappers or without "
                "any"
            )


def _counted(parts: list[tuple[Any, str]], at: str) -> Any:
    """The number of finished steps, on which all counts have to agree."""
    counts = {
        f"{where}.{name}": getattr(x, name) - first if first else getattr(x, name)  # else as it is sharded
        for x, where in parts
        for name, first in COUNTERS.items()
        if name in x._fields
    }
    if not counts:
        raise ValueError(f"{at} counts no steps: give their number, from_optax(..., count=...)")
    known = {where: int(x) for where, x in counts.items() if not isinstance(x, Tracer)}
    if len({*known.values()}) > 1:
        raise ValueError(
            f"{', '.join(f'{where} is {n}' for where, n in known.items())}, but an adamx optimizer counts once: say "
            "which it is, from_optax(..., count=...), and shift the schedules of the others"
        )
    return next(iter(counts.values()))


def _cast(leaves: _leaves.Leaves, column: list[Any], found: list[Found], tree: Any) -> Any:
    """`tree` with the arrays of `column`; where there is none it stays."""
    new = [was.x for was in found]
    for i, (x, was) in enumerate(zip(column, found, strict=True)):
        if x is not None:
            if x.shape != jnp.shape(was.x):
                raise ValueError(
                    f"{was.at} has shape {jnp.shape(was.x)}, adamx's slot {x.shape}: give the same options"
                )
            # Optax begins real second moments of complex leaves as complex zeros.
            new[i] = x.astype(was.x.dtype if jnp.iscomplexobj(x) else real_dtype(was.x.dtype))
    if jax.tree_util.all_leaves([tree]):  # one number for all leaves
        return new[0]
    made = {_leaves.show("", path): x for path, x in zip(leaves.paths, new, strict=True)}
    return jax.tree_util.tree_map_with_path(lambda path, _: made[_leaves.show("", path)], tree, is_leaf=_leaves.is_none)


def _replaced(x: Any, new: dict[str, Any], at: str) -> Any:
    """`x` with what stands at these paths replaced."""
    if at in new:
        return new[at]
    parts, structure = children(x)
    if parts.get("") is x:
        return x
    return structure.unflatten([_replaced(part, new, at + key) for key, part in parts.items()])
