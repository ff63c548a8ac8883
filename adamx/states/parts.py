"""An adamx state inside another transformation's state, and the parameters that it belongs to."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from .. import _leaves
from .._annotations import Params
from .._check import validate_state
from .._engine import Engine, State
from .._variables import is_variable, without_variables


def find_state(state: Any) -> State:
    """The only adamx state in `state`.

    Raises:
        ValueError: there is none, or there are several.
    """
    found = [x for x in jax.tree.leaves(state, is_leaf=is_state) if is_state(x)]
    if len(found) != 1:
        cure = (
            "of `optax.partition` take one label's after another, `state.inner_states[label]`"
            if found
            else "of Flax's train state and of an NNX optimizer it is in `opt_state`"
        )
        raise ValueError(f"there are {len(found)} adamx states in it: give the one that is meant; {cure}")
    return found[0]


def map_states(f: Callable[[State], State], state: Any) -> Any:
    """`state` with `f` applied to each adamx state in it.

    Raises:
        ValueError: there is none.
    """
    if not any(map(is_state, jax.tree.leaves(state, is_leaf=is_state))):
        find_state(state)  # says which to give
    return jax.tree.map(lambda x: f(x) if is_state(x) else x, state, is_leaf=is_state)


def is_state(x: Any) -> bool:
    """Whether `x` is the state of an adamx optimizer."""
    return isinstance(x, State)


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


def merge_part(part: Params, tree: Params) -> Params:
    """The inverse of `select_part`: `tree` with the leaves of `part`, masked ones unchanged."""
    put = jax.tree.map(lambda x, was: was if is_masked(x) else x, part, without_variables(tree), is_leaf=is_place)
    leaves, structure = jax.tree.leaves(put, is_leaf=_leaves.is_none), jax.tree.structure(tree, is_leaf=_leaves.is_none)
    return structure.unflatten(leaves)


def is_masked(x: Any) -> bool:
    """Whether `x` is the placeholder of `optax.masked` for a leaf or subtree."""
    return isinstance(x, optax.MaskedNode)


def is_place(x: Any) -> bool:
    """Whether `x` is the stored slot of one leaf, a variable around it, or a placeholder."""
    return is_masked(x) or is_variable(x) or _leaves.is_stored(x)
