"""What wrappers keep beside the states of the optimizers in them, as the `init` of another would have it."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import _leaves
from .._annotations import Array, Params
from .._layout import wide_dtype
from .._transform import owner_of
from .._variables import inside, outside, without_variables
from ..moments import format_name, format_stored, group_largest, is_code, stored_shape
from ..moments.noise import noise
from ..wrapper import Wrapper, is_state, parts_of, states_in
from .parts import children, is_masked, is_place, select_part, steppers


def follow(opt: Any, state: Any, params: Params) -> Any:
    """`state`, whose adamx states are those of `opt`, with what its wrappers keep as `opt.init(params)` has it.

    What that has no array for, as for a frozen leaf, is dropped; what only that has, as for a thawed one, begins so;
    what it stores in another format is decoded and encoded. All else stays, with its variables of NNX. Nothing is known
    here of any wrapper.

    Args:
        opt: the optimizer that goes on.
        state: the state, or one that holds it.
        params: the parameters; `jax.ShapeDtypeStruct`s do where nothing is thawed.

    Raises:
        ValueError: the state is not of these wrappers.
    """
    if not isinstance(owner_of(opt), Wrapper) or is_state(like := jax.eval_shape(opt.init, params)):
        return state
    is_whole = functools.partial(_is_like, like)
    if not any(map(is_whole, jax.tree.leaves(state, is_leaf=is_whole))):
        raise ValueError(
            f"there is no {type(like).__name__} in the {type(state).__name__}: give the state of all wrappers of the "
            "optimizer, or the optimizer within those that the state has not"
        )
    return jax.tree.map(lambda x: _followed(opt, x, params) if is_whole(x) else x, state, is_leaf=is_whole)


def begin_around(opt: Any, state: Any, params: Params) -> Any:
    """`state` within what those wrappers of `opt` keep that it has not, which begin; itself if it has the outermost."""
    owner, like = owner_of(opt), jax.eval_shape(opt.init, params)
    is_whole = functools.partial(_is_like, like)
    there = any(map(is_whole, jax.tree.leaves(state, is_leaf=is_whole)))
    if there or not isinstance(owner, Wrapper) or isinstance(owner.opt, Mapping):
        return state
    parts, tree = children(like)
    inner = next(key for key, x in parts.items() if states_in(x))
    begin = jax.jit(lambda params: {key: x for key, x in children(opt.init(params))[0].items() if key != inner})
    begun = begin(params) | {inner: begin_around(owner.opt, state, params)}
    return tree.unflatten([begun[key] for key in parts])


class Kept(NamedTuple):
    """What a wrapper keeps of a leaf.

    Attributes:
        leaf: the place of the leaf among all.
        name: where it stands in the state, as in "averages.0.average".
        format: how it is stored.
        bytes: its size.
    """

    leaf: int
    name: str
    format: str
    bytes: int


def kept_of_leaves(state: Any, params: Params) -> list[Kept]:
    """What is of leaves in a state but not in adamx's own ones: path and shape tell."""
    params = without_variables(params)
    of_path = {path: (i, jnp.shape(p)) for i, (path, p) in enumerate(jax.tree_util.tree_flatten_with_path(params)[0])}
    state = jax.tree.map(lambda x: None if is_state(x) else x, without_variables(state), is_leaf=is_state)
    found: list[Kept] = []
    for path, x in jax.tree_util.tree_flatten_with_path(state, is_leaf=is_code)[0]:
        own = ((start, *of_path.get(path[start:], (0, None))) for start in range(len(path) + 1))
        if (mine := next(((n, leaf) for n, leaf, shape in own if shape == stored_shape(x)), None)) is not None:
            name = jax.tree_util.keystr(path[: mine[0]], simple=True, separator=".")
            found.append(
                Kept(mine[1], name, format_name(x), sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(x)))
            )
    return found


def _followed(opt: Any, state: Any, params: Params) -> Any:
    """`follow`, of the state of `opt` itself."""
    parts = itertools.cycle(steppers(parts_of(opt, params)))
    for own, (engine, _) in zip(states_in(state), parts, strict=False):
        params = select_part(params, engine, without_variables(own))
    state = outside(state)
    old, new = _places(without_variables(state)), _places(jax.eval_shape(opt.init, params))
    for name in old.keys() ^ new.keys():
        raise ValueError(f"state/{name} is in one of the two states only: wrap both optimizers alike")
    thawed = [name for name, x in old.items() if x is None and new[name] is not None]
    begin = jax.jit(lambda params: [_places(opt.init(params))[name] for name in thawed])
    begun = dict(zip(thawed, begin(params) if thawed else [], strict=True))

    def kept(name: str, x: Any, like: Any, boxed: Any) -> Any:
        if like is None or is_state(x) or is_masked(x):
            return boxed if like is not None else None
        if x is None:
            return begun[name]
        if stored_shape(x) != stored_shape(like):
            raise ValueError(f"state/{name} has shape {stored_shape(x)}, and would have {stored_shape(like)}")
        if format_name(x) == format_name(like):
            return boxed
        return jax.tree.structure(boxed, is_leaf=_leaves.is_stored).unflatten([_stored_as(name, x, like)])

    boxes, tree = jax.tree.flatten(state, is_leaf=_is_place)
    return inside(tree.unflatten(map(kept, old, old.values(), new.values(), boxes)))


def _is_like(like: Any, x: Any) -> bool:
    """Whether the same is directly in `x`."""
    return type(x) is type(like) and children(x)[1] == children(like)[1]


def _places(state: Any) -> dict[str, Any]:
    """What stands in a state, absent leaves too, by its path."""
    pairs = jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_place)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in pairs}


def _is_place(x: Any) -> bool:
    return is_state(x) or is_place(x)


def _stored_as(name: str, x: Any, like: Any) -> Array:
    """What is stored as `x`, as `like` is."""
    old, new = (format_stored(y, "bfloat16", getattr(y, "dtype", jnp.float32)) for y in (x, like))
    value = old.decode(x, None)
    value = value.astype(wide_dtype(value))
    (largest,) = group_largest([new], [value], [None])
    return new.encode(value, None, noise(0, name, jnp.zeros([], jnp.int32)), largest)
