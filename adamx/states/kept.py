"""What wrappers keep beside the states of the optimizers in them, as the `init` of another would have it."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import NamedSharding

from .. import _leaves
from .._annotations import Array, Params
from .._layout import wide_dtype
from .._transform import owner_of
from .._variables import inside, outside, without_variables
from ..moments import format_name, format_stored, group_largest, is_code, stored_shape
from ..moments.noise import noise
from ..sharding import state_shardings
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
            f"there is no {type(like).__name__} in the {type(state).__name__}: give the optimizer with the wrappers "
            "that the state is of"
        )
    return jax.tree.map(lambda x: _followed(opt, x, params) if is_whole(x) else x, state, is_leaf=is_whole)


def begin_around(opt: Any, state: Any, params: Params) -> Any:
    """`state` with what those wrappers of `opt` keep that it has not, around it and within, which begin.

    Raises:
        ValueError: the state is of wrappers that `opt` has not, has in another order, or has more of.
    """
    like = jax.eval_shape(opt.init, params)
    for own, wanted in zip(_kinds_around(state), itertools.cycle(_kinds_around(like)), strict=False):
        for kind in own:
            (name, inner), held, has = kind, own.count(kind), wanted.count(kind)
            if held > has:
                raise ValueError(
                    f"the state has {held} {name}, that of the optimizer {has}: give what is within it, state{inner}"
                )
            if held < has:
                raise ValueError(
                    f"ambiguous: the state has {held} {name}, and that of the optimizer {has}: regroup the inner one "
                    f"first, and put it into opt.init(params), as its {inner[1:]}"
                )
        if own != [kind for kind in wanted if kind in own]:
            names = ", ".join(name for name, _ in own)
            raise ValueError(f"the state is of {names}, from outside in, and the optimizer has them in another order")
    whole = _nested(opt, like, state)
    is_shape = lambda x: any(isinstance(part, jax.ShapeDtypeStruct) for part in jax.tree.leaves(x))  # noqa: E731
    missing = [name for name, x in _entries(whole).items() if is_shape(x)]
    begun = dict(zip(missing, _begun(opt, params, missing) if missing else [], strict=True))
    boxes, tree = jax.tree.flatten(whole, is_leaf=_is_entry)
    return tree.unflatten([begun.get(name, x) for name, x in zip(_entries(whole), boxes, strict=True)])


def _nested(opt: Any, like: Any, state: Any) -> Any:
    """`begin_around`, with shapes where something begins; `like` has those of `opt`."""
    owner, is_whole = owner_of(opt), functools.partial(_is_like, like)
    is_there = any(map(is_whole, jax.tree.leaves(state, is_leaf=is_whole)))
    if not isinstance(owner, Wrapper) or not states_in(like) or (is_there and not is_whole(state)):
        return state
    if isinstance(owner.opt, Mapping):
        if not is_there or state.parts.keys() != owner.opt.keys():
            return state
        parts = {name: _nested(opt, like.parts[name], state.parts[name]) for name, opt in owner.opt.items()}
        return state._replace(parts=parts)
    wanted, (parts, tree) = children(like)[0], children(state if is_there else like)
    inner = next(key for key, x in wanted.items() if states_in(x))
    parts[inner] = _nested(owner.opt, wanted[inner], parts[inner] if is_there else state)
    return tree.unflatten(parts.values())


class KeptOfLeaf(NamedTuple):
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


def kept_of_leaves(state: Any, params: Params) -> list[KeptOfLeaf]:
    """What is of leaves in a state but not in adamx's own ones: path and shape tell."""
    pairs = jax.tree_util.tree_flatten_with_path(without_variables(params))[0]
    places = {path: i for i, (path, _) in enumerate(pairs)}
    state = jax.tree.map(lambda x: None if is_state(x) else x, without_variables(state), is_leaf=is_state)
    found: list[KeptOfLeaf] = []
    for path, x in jax.tree_util.tree_flatten_with_path(state, is_leaf=is_code)[0]:
        for start in range(len(path) + 1):
            i = places.get(path[start:])
            if i is not None and jnp.shape(pairs[i][1]) == stored_shape(x):
                name = jax.tree_util.keystr(path[:start], simple=True, separator=".")
                n = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(x))
                found.append(KeptOfLeaf(i, name, format_name(x), n))
                break
    return found


def _followed(opt: Any, state: Any, params: Params) -> Any:
    """`follow`, of the state of `opt` itself."""
    parts = itertools.cycle(steppers(parts_of(opt, params)))
    for own, (engine, _) in zip(states_in(state), parts, strict=False):
        params = select_part(params, engine, without_variables(own))
    state = outside(state)
    old, new = _entries(without_variables(state)), _entries(jax.eval_shape(opt.init, params))
    for name in old.keys() ^ new.keys():
        raise ValueError(f"state/{name} is in one of the two states only: {_cure(opt, name)}")
    thawed = [name for name, x in old.items() if x is None and new[name] is not None]
    begun = dict(zip(thawed, _begun(opt, params, thawed) if thawed else [], strict=True))

    def carried(name: str, x: Any, like: Any, boxed: Any) -> Any:
        if like is None or is_state(x) or is_masked(x):
            return boxed if like is not None else None
        if x is None:
            return begun[name]
        if stored_shape(x) != stored_shape(like):
            shapes = f"has shape {stored_shape(x)}, and would have {stored_shape(like)}"
            raise ValueError(f"state/{name} {shapes}: {_cure(opt, name)}")
        if format_name(x) == format_name(like):
            return boxed
        return jax.tree.structure(boxed, is_leaf=_leaves.is_stored).unflatten([_stored_as(name, x, like)])

    boxes, tree = jax.tree.flatten(state, is_leaf=_is_entry)
    return inside(tree.unflatten(map(carried, old, old.values(), new.values(), boxes)))


def _kinds_around(state: Any) -> list[list[tuple[str, str]]]:
    """The states of adamx's wrappers around each adamx state, the outermost first: type, and place of what is in it."""
    if is_state(state):
        return [[]]
    is_own = type(state).__module__.partition(".")[0] == __name__.partition(".")[0]
    own = {key: x for key, x in children(state)[0].items() if x is not state}
    return [[(type(state).__name__, key)] * is_own + around for key, x in own.items() for around in _kinds_around(x)]


def _cure(opt: Any, name: str) -> str:
    """What to do about an entry that is of another size than `opt` would have it."""
    owners = [owner_of(opt)]
    for owner in owners:
        owners += [owner_of(one) for one in owner.inner] if isinstance(owner, Wrapper) else []
    told = {field: x for owner in owners if isinstance(owner, Wrapper) for field, x in owner.sizes}
    for field in name.split("/"):
        if field in told:
            return f"make the optimizer with the {told[field]} that the state was made with"
    return "wrap both optimizers alike, with the same arguments"


def _is_like(like: Any, x: Any) -> bool:
    """Whether the same is directly in `x`."""
    return type(x) is type(like) and children(x)[1] == children(like)[1]


def _begun(opt: Any, params: Params, names: list[str]) -> list[Any]:
    """What `init` makes in these places, and nothing else of it, cut over the mesh that the parameters are on."""
    on_mesh = lambda p: not isinstance(p, Tracer) and isinstance(getattr(p, "sharding", None), NamedSharding)  # noqa: E731
    found = _entries(state_shardings(opt, params)) if all(map(on_mesh, jax.tree.leaves(params))) else {}
    begin = lambda params: [_entries(opt.init(params))[name] for name in names]  # noqa: E731
    return jax.jit(begin, out_shardings=[found[name] for name in names] if found else None)(params)


def _entries(state: Any) -> dict[str, Any]:
    """What stands in a state, absent leaves too, by its path."""
    pairs = jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_entry)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in pairs}


def _is_entry(x: Any) -> bool:
    return is_state(x) or is_place(x)


def _stored_as(name: str, x: Any, like: Any) -> Array:
    """What is stored as `x`, as `like` is."""
    old, new = (format_stored(y, "bfloat16", getattr(y, "dtype", jnp.float32)) for y in (x, like))
    value = old.decode(x, None)
    value = value.astype(wide_dtype(value))
    (largest,) = group_largest([new], [value], [None])
    return new.encode(value, None, noise(0, name, jnp.zeros([], jnp.int32)), largest)
