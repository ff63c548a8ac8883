"""An adamx state inside another transformation's state, and the parameters that it belongs to."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .. import _engine, _leaves
from .._annotations import Params
from .._check import validate_state
from .._engine import Engine
from .._state import State
from .._variables import is_variable, without_variables
from ..wrapper import Parts, is_state, states_in


def find_state(state: Any) -> State:
    """The only adamx state in `state`.

    Raises:
        ValueError: there is none, or there are several.
    """
    found = states_in(state)
    if len(found) != 1:
        cure = (
            "of `optax.partition` take one label's after another, `state.inner_states[label]`, and of `adamx.by_path` "
            "one pattern's, `state.parts[pattern]`"
            if found
            else "of Flax's train state and of an NNX optimizer it is in `opt_state`"
        )
        raise ValueError(f"there are {len(found)} adamx states in it: give the one that is meant; {cure}")
    return found[0]


def map_states(f: Callable[..., State], state: Any, parts: Parts) -> Any:
    """`state` with each adamx state in it replaced by `f(it, *part)`, of several parts each by its own.

    Raises:
        ValueError: there is none, or not one for each part.
    """
    found, parts = states_in(state), steppers(parts)
    if not found or (len(parts) > 1 and len(parts) != len(found)):
        find_states(state, parts)  # says which to give
    turns = itertools.cycle(parts)
    return jax.tree.map(lambda x: f(x, *next(turns)) if is_state(x) else x, state, is_leaf=is_state)


def find_states(state: Any, parts: Parts) -> list[State]:
    """The adamx states in `state`, one for each of adamx's parts.

    Raises:
        ValueError: there are more or fewer.
    """
    found = states_in(state)
    if len(parts) == 1:
        return [find_state(state)]
    if len(found) != len(parts):
        raise ValueError(f"there are {len(found)} adamx states in it, and {len(parts)} adamx optimizers: give its own")
    return found


def steppers(parts: Parts) -> Parts:
    """The parts that adamx optimizers have."""
    return [part for part in parts if part[0] is not None]


def select_part(tree: Params, engine: Engine, state: State) -> Params:
    """`tree` without variables, with the leaves masked that `optax.masked` hides from the optimizer."""
    validate_state(state, engine.layout, engine.varying, engine.rule)
    columns = engine.layout.tree.flatten_up_to(state.slots)
    if jax.tree.leaves(state.residuals):
        columns.append(state.residuals)
    tree = without_variables(tree)
    if not columns or not any(map(is_masked, jax.tree.leaves(columns[-1], is_leaf=is_place))):
        return tree
    return jax.tree.map(lambda kept, x: kept if is_masked(kept) else x, columns[-1], tree, is_leaf=is_place)


def _selected(tree: Params, part: Params) -> Params:
    """`tree` without variables and without what is masked or absent in `part`."""
    away = lambda x: x is None or is_masked(x)  # noqa: E731
    return jax.tree.map(lambda x, y: x if away(x) else y, part, without_variables(tree), is_leaf=is_place)


def merge_part(part: Params, tree: Params) -> Params:
    """The inverse of `select_part`: `tree` with the leaves of `part`, masked and absent ones unchanged."""
    put = jax.tree.map(
        lambda x, was: was if x is None or is_masked(x) else x, part, without_variables(tree), is_leaf=is_place
    )
    leaves, structure = jax.tree.leaves(put, is_leaf=_leaves.is_none), jax.tree.structure(tree, is_leaf=_leaves.is_none)
    return structure.unflatten(leaves)


def is_masked(x: Any) -> bool:
    """Whether `x` is the placeholder of `optax.masked` for a leaf or subtree."""
    return isinstance(x, optax.MaskedNode)


def is_place(x: Any) -> bool:
    """Whether `x` is the stored slot of one leaf, a variable around it, or a placeholder."""
    return is_masked(x) or is_variable(x) or _leaves.is_stored(x)


class Place(NamedTuple):
    """An adamx state in the state of a transformation.

    Attributes:
        engine: of the optimizer that it is of.
        like: the state that its `init` makes, in `jax.ShapeDtypeStruct`s.
        params: its part of the parameters, without those that are frozen.
    """

    engine: Engine
    like: State
    params: Params


def begin(opt: Any, params: Params) -> tuple[Any, list[Place], Any]:
    """The state of `opt.init(params)` without what adamx's optimizers keep, and what belongs there.

    Returns:
        The state, without variables of NNX, and of adamx's states in it the counts only; the place of each of these, in
        order; the structure of the state that `init` makes.
    """
    places: list[Place] = []
    structures: list[Any] = []
    heard: list[tuple[Engine, State, Params]] = []

    def empty(x: Any) -> Any:
        if not is_state(x):
            return x
        engine, share = next((engine, share) for engine, made, share in heard if made is x)
        like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), without_variables(x))
        leaves = _leaves.flatten(_selected(params, without_variables(share)), "params")
        stepped = zip(leaves.arrays, engine.members_of(leaves), strict=True)
        places.append(Place(engine, like, leaves.rebuild([None if one.frozen else p for p, one in stepped])))
        return State(x.count, (), {})

    def init(params: Params) -> Any:
        state = opt.init(params)
        structures.append(jax.tree.structure(state))
        return without_variables(jax.tree.map(empty, state, is_leaf=is_state))

    before = _engine.listeners.set((*_engine.listeners.get(), heard))
    try:
        begun = jax.jit(init)(params)
    finally:
        _engine.listeners.reset(before)
    if not places:
        raise ValueError("there is no adamx optimizer in opt: give one, or an Optax transformation with one in it")
    return begun, places, structures[-1]


Visit = Callable[[Any, Any, str], tuple[Any, Any]]
"""From two trees and the path of the second to the two, changed."""


def walk(ours: Any, theirs: Any, at: str, state: Visit, rest: Visit) -> tuple[Any, Any]:
    """Both trees, changed by `state` where one of adamx's stands and by `rest` where none is.

    Where only one part of a container has arrays, the container is passed over: a chain may be longer on one side. So
    are adamx's own wrappers, which only `ours` can have.
    """
    if is_state(ours):
        return state(ours, theirs, at)
    if not states_in(ours):
        return rest(ours, theirs, at)
    own, tree = children(ours)
    key = _only_part(own)
    if type(ours).__module__.partition(".")[0] == __name__.partition(".")[0]:
        key = next(key for key, x in own.items() if states_in(x))
    if key is not None:
        new, theirs = walk(own[key], theirs, at, state, rest)
        return tree.unflatten((own | {key: new}).values()), theirs
    others, other_tree = children(theirs)
    lost = [key for key, x in own.items() if key not in others and jax.tree.leaves(x)]
    if type(ours) is not type(theirs) or lost or (isinstance(ours, tuple) and len(own) != len(others)):
        if (key := _only_part(others)) is None or others[key] is theirs:
            raise ValueError(
                f"{at} is {_kind(theirs)}, where the state with adamx's has {_kind(ours)}: wrap both optimizers alike, "
                "and chain as many parts that keep a state"
            )
        ours, new = walk(ours, others[key], at + key, state, rest)
        return ours, other_tree.unflatten((others | {key: new}).values())
    both = {key: walk(x, others[key], at + key, state, rest) for key, x in own.items() if key in others}
    own, others = own | {key: x for key, (x, _) in both.items()}, others | {key: x for key, (_, x) in both.items()}
    return tree.unflatten(own.values()), other_tree.unflatten(others.values())


def children(x: Any) -> tuple[dict[str, Any], Any]:
    """What is directly in `x`, by its path, and the structure that holds it."""
    pairs, tree = jax.tree_util.tree_flatten_with_path(x, is_leaf=lambda y: y is not x)
    return {jax.tree_util.keystr(path): child for path, child in pairs}, tree


def _only_part(children: dict[str, Any]) -> str | None:
    kept = [key for key, x in children.items() if jax.tree.leaves(x)]
    return kept[0] if len(kept) == 1 else None


def _kind(x: Any) -> str:
    return f"{type(x).__name__} of {len(x)}" if type(x) in (tuple, list, dict) else type(x).__name__


def nodes(x: Any, at: str) -> Iterator[tuple[Any, str]]:
    """Every NamedTuple in `x`, and its path."""
    if hasattr(x, "_fields"):
        yield x, at
    for key, child in children(x)[0].items():
        if child is not x:
            yield from nodes(child, at + key)


def copied(into: Any, out_of: Any, at: str) -> Any:
    """`into` with the arrays of `out_of`, both of the same wrapper."""
    new, old = (dict(jax.tree_util.tree_flatten_with_path(x)[0]) for x in (into, out_of))
    for path in new.keys() ^ old.keys():
        if not at.endswith(".hyperparams"):  # of which each library's factory has some that the other does not
            raise ValueError(f"{at}{jax.tree_util.keystr(path)} is in one of the two states only: wrap both alike")
    for path, x in new.items():
        if path in old and jnp.shape(x) != jnp.shape(old[path]):
            where = at + jax.tree_util.keystr(path)
            raise ValueError(
                f"{where} has shape {jnp.shape(old[path])} in the one state and {jnp.shape(x)} in the other"
            )
    return jax.tree.unflatten(
        jax.tree.structure(into), [jnp.asarray(old[p], x.dtype) if p in old else x for p, x in new.items()]
    )
