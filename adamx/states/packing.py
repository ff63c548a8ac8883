"""Conversion of a state's slots between storage formats, and a map over all of its arrays."""

from collections.abc import Callable
from typing import Any

import jax

from .. import _leaves
from .._annotations import Params
from .._check import validate_slots
from .._engine import Engine
from .._layout import Layout, wide_dtype
from .._state import State
from .._transform import Optimizer
from .._variables import without_variables
from ..moments import is_code, stored_shape
from ..wrapper import parts_of
from .parts import find_states, is_masked, is_place, map_states, steppers


def unpack_state(opt: Optimizer, state: Any, params: Params) -> Any:
    """The state with all slots in at least float32, whatever `opt` stores them in.

    An optimizer of the same rule with `moments="float32"` can continue from it; use it for plots and checkpoints for
    other tools. The decoded values are exact.

    Args:
        opt: the optimizer whose state it is.
        state: its state, or one that holds it.
        params: the parameters, or `jax.ShapeDtypeStruct`s like them.

    Returns:
        A state like `state`, whose slots are trees of arrays of at least float32.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt, params = adamx.adam(1e-3, moments="int8"), jnp.ones((64, 64))
        >>> adamx.unpack_state(opt, opt.init(params), params).slots.nu.dtype
        dtype('float32')
    """

    def decode(layout: Layout, row: list[Any], forms: list[Any], wide: Any, noise: Any) -> list[Any]:
        del forms, noise
        return layout.tree.flatten_up_to(layout.decode(row, layout.formats_stored(row, wide), wide))

    find_states(state, parts := steppers(parts_of(opt, params)))
    return map_states(lambda own, engine, part: _with_slots(own, part, engine, decode), state, parts)


def pack_state(opt: Optimizer, state: Any, params: Params) -> Any:
    """The state with all slots in the formats of `opt`: the way back from `unpack_state`, or into it from float32.

    Rounding once costs, for Adam's moments in "int8", at most .6 % of a second moment for each octave between a group's
    largest and least, and of the direction mu / sqrt(nu) at most 2 % of a group's largest (.5 % near zero); in
    "bfloat16" .8 % of the mean and .4 % of the second moment. Dither keeps their means within 1 %. What `unpack_state`
    gives comes back as the same codes but for that dither, which may move one by one place.

    Args:
        opt: the optimizer that will go on with it.
        state: a state of the same rule in which slots are dense, or one that holds it.
        params: the parameters.

    Returns:
        A state of `opt`, after as many steps.

    Raises:
        TypeError: slots are packed already.
        ValueError: `opt` keeps residuals of narrow weights and the state has none: `from_master(params, opt,
            state=state)` packs both.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> exact, small = adamx.adam(1e-3), adamx.adam(1e-3, moments="int8")
        >>> params = jnp.ones((64, 64))
        >>> _, state = exact.step(params, exact.init(params), params)
        >>> packed = adamx.pack_state(small, state, params)
        >>> packed.slots.nu.code.dtype
        dtype('uint8')
        >>> bool(abs(adamx.unpack_state(small, packed, params).slots.mu - 0.1).max() < 0.002)
        True
    """
    find_states(state, parts := steppers(parts_of(opt, params)))
    return map_states(packed, state, parts)


def packed(state: State, engine: Engine, params: Params) -> State:
    """`pack_state` of one engine's."""

    def encode(layout: Layout, row: list[Any], forms: list[Any], wide: Any, noise: Any) -> list[Any]:
        del wide
        if any(is_code(x) for x in row):
            raise TypeError("the state is packed already: `unpack_state` it first, with the optimizer that made it")
        dense = [None if x is None else x.astype(wide_dtype(x)) for x in row]
        return layout.encode(dense, forms, noise)

    engine.validate_residuals(state.residuals, _leaves.flatten(params, "params"))
    return _with_slots(state, params, engine, encode)


def map_slots(f: Callable[..., Any], opt: Optimizer, state: Any, *trees: Any) -> Any:
    """Map `f` over every array of a state's slots and residuals, with the corresponding leaves of `trees`.

    Like `optax.tree_map_params`, but `f` is called with each array of a coded slot.

    Args:
        f: called with an array of the state (or whatever stands in its place) and one leaf of each tree.
        opt: the optimizer whose state it is, of a chain or partition the part that is adamx's.
        state: its state, or one that holds it; what else is in it is left alone. Of `optax.partition` take one label's
            after another, `state.inner_states[label]`. Variables of NNX stay around what they hold.
        *trees: trees like the parameters, such as these or their shardings.

    Returns:
        A tree like `state`, with what `f` returned in place of the arrays of slots and residuals.

    Raises:
        TypeError: `opt` is not an adamx optimizer.
        ValueError: no adamx state in `state`, or one of another rule.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> from jax.sharding import PartitionSpec as P
        >>> opt, params = adamx.adam(1e-3, moments="int8"), {"w": jnp.ones((64, 256))}
        >>> state = jax.eval_shape(opt.init, params)
        >>> specs = adamx.map_slots(lambda x, spec: spec, opt, state, {"w": P("data")})
        >>> specs.slots.nu["w"]
        LogCode(code=P('data',), low=P('data',), high=P('data',))
    """
    trees = tuple(map(without_variables, trees))

    def place(x: Any, *leaves: Any) -> Any:
        return x if is_masked(x) else jax.tree.map(lambda a: f(a, *leaves), x)

    def column(tree: Any) -> Any:
        return jax.tree.map(place, tree, *trees, is_leaf=is_place)

    def of(part: Any, engine: Engine) -> Any:
        layout = engine.layout
        validate_slots(part, layout, engine.rule)
        slots = layout.tree.unflatten([column(x) for x in layout.tree.flatten_up_to(part.slots)])
        residuals = column(part.residuals) if jax.tree.leaves(part.residuals) else part.residuals
        return part._replace(slots=slots, residuals=residuals)

    return map_states(of, state, parts_of(opt))


def _with_slots(state: State, params: Params, engine: Engine, change: Any) -> State:
    """`state` with each leaf's slots put through `change(layout, slots, formats, dtype, noise)`."""
    leaves = _leaves.flatten(params, "params")
    rows, _ = engine.rows(leaves, state)
    new = []
    for path, p, row, member in zip(leaves.paths, leaves.arrays, rows, engine.members_of(leaves), strict=True):
        if p is None or member.frozen:
            new.append(row)
            continue
        wide = wide_dtype(p)
        shapes = [None if x is None else stored_shape(x) for x in row]
        forms = member.layout.formats_of(p.shape, shapes, wide)
        new.append(change(member.layout, row, forms, wide, engine.noise(path, state.count)))
    return state._replace(slots=engine.slots(leaves, new))
