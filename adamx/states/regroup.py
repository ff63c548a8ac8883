"""The state of an optimizer for another form of it: leaves freeze and thaw, slots change formats, wrappers begin."""

from typing import Any

import jax
import jax.numpy as jnp

from .. import _leaves
from .._annotations import Array, Params
from .._check import validate_leaf, validate_state
from .._engine import Engine
from .._layout import wide_dtype
from .._leaf import Leaf
from .._transform import Optimizer
from .._variables import without_variables
from .._weights import ROUNDINGS, Rounding, is_narrow
from ..groups import Member
from ..moments import format_stored, is_code, stored_shape
from ..schedules import first_values
from ..shared import Begun
from ..wrapper import parts_of
from .filling import products_until
from .kept import begin_around, follow
from .parts import map_states, select_part


def regroup(opt: Optimizer, state: Any, params: Params) -> Any:
    """The state with which `opt` goes on where the same optimizer with other groups, numbers or wrappers stopped.

    Of groups, only what freezes, thaws, or is stored otherwise needs it; a state goes with any others as it is. The
    slots of a leaf that becomes frozen are dropped. Those of one that is thawed begin as by `init`; its bias
    correction, and whatever else its rule counts steps for, counts from here on as that of an optimizer that begins
    now, while schedules go on. Slots of other formats are decoded and encoded. What wrappers keep of leaves goes with
    these: the average of a leaf that is thawed begins with its weight, its sum of gradients at 0.

    Live numbers that the state has not, and wrappers that it is not of, also in parts of `adamx.by_path`, begin as by
    `init`; `adamx.by_path` itself cannot. What is within a wrapper's state, such as `state.inner`, is that of the
    optimizer without it. A decay rate that the state has no product of, as it was constant, is taken to have followed
    its schedule, or to have had the first value of its live number, in all steps before.

    Args:
        opt: the optimizer that goes on, with its wrappers; of a chain or partition the part that is adamx's.
        state: the state, or one that holds it. Slots lose the variables of NNX: give it as `opt_state` of a new
            `adamx.flax.Optimizer`, which puts them on.
        params: the parameters.

    Returns:
        A state of `opt`, after as many steps.

    Raises:
        ValueError: the state is of another rule or of other parameters; a leaf is thawed whose rule sums over all
            leaves, as Prodigy's, and would begin with another estimate than theirs; the state is of wrappers that `opt`
            has not, has in another order, more of (of two of one kind it is ambiguous whose the state is), or with
            other arguments that sizes follow, as a window.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> params = {"head": jnp.ones(2), "trunk": jnp.ones(2)}
        >>> frozen = adamx.adam(0.1, groups=[adamx.Group("trunk", frozen=True)])
        >>> params, state = frozen.step(params, frozen.init(params), params)
        >>> opt = adamx.adam(0.1)
        >>> state = adamx.regroup(opt, state, params)
        >>> opt.step({"head": jnp.zeros(2), "trunk": jnp.ones(2)}, state, params)[0]["trunk"].round(4)
        Array([0.9, 0.9], dtype=float32)
    """

    def of(part: Any, engine: Engine, params: Params) -> Any:
        own = without_variables(part)
        live = {name: dict(own.live).get(name, x) for name, x in dict(first_values(engine.schedules)).items()} or ()
        if own.log_products.keys() != engine.varying:
            own = _with_products(own, engine, live)
            own = own._replace(begun=tuple(_with_products(x, engine, live) for x in own.begun))
        leaves = _leaves.flatten(select_part(params, engine, own), "params")
        validate_state(own, engine.layout, engine.varying, engine.rule)
        rows, residuals = engine.rows(leaves, own)
        thawed, frozen = list[str](), set[str]()
        for i, (path, p, member) in enumerate(zip(leaves.paths, leaves.arrays, engine.members_of(leaves), strict=True)):
            if p is None:
                continue
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            if member.frozen:
                rows[i], residuals[i] = [None] * len(rows[i]), None
                frozen.add(name)
                continue
            first = member.layout.start(p, engine.noise(path, own.count, p))
            if all(x is None for x in rows[i]) and jax.tree.leaves(first):
                rows[i] = first
                thawed.append(name)
            else:
                rows[i] = _stored(engine, member, path, p, rows[i], own.count)
            residuals[i] = _residual(member.rounding if is_narrow(p) else None, p, residuals[i])
            validate_leaf(
                Leaf(path, p, p, rows[i], True, member.rounding if is_narrow(p) else None, residuals[i]), member.layout
            )
        if thawed and engine.rule.measures:
            raise ValueError(
                f"params/{thawed[0]} is thawed, but the rule sums over all leaves, and those that begin now have not "
                "seen what the others have: make a new state with `init(params)`"
            )
        begun = [x._replace(leaves=kept) for x in own.begun if (kept := _without(x.leaves, {*frozen, *thawed}))]
        if thawed:
            begun.append(
                Begun(own.count + 0, jax.tree.map(lambda x: x + 0, own.log_products), dict.fromkeys(thawed, ()))
            )
        kept = leaves.rebuild(residuals) if jax.tree.leaves(residuals) else ()
        return own._replace(slots=engine.slots(leaves, rows), residuals=kept, begun=tuple(begun), live=live)

    bare = without_variables(params)
    return follow(opt, begin_around(opt, map_states(of, state, parts_of(opt, bare)), bare), bare)


def _with_products(x: Any, engine: Engine, live: Any) -> Any:
    """A state or `Begun` with a product of each rate that varies; one that was constant is as if it always had."""
    begun = products_until(engine, x.count, live)
    return x._replace(log_products={path: x.log_products.get(path, product) for path, product in begun.items()})


def _without(leaves: dict[str, tuple[()]], names: set[str]) -> dict[str, tuple[()]]:
    return {name: () for name in leaves if name not in names}


def _stored(engine: Engine, member: Member, path: _leaves.Path, p: Array, row: list[Any], count: Array) -> list[Any]:
    """The slots in the formats of the leaf's group; those that are so stay as they are."""
    layout, wide = member.layout, wide_dtype(p)
    shapes = [None if x is None else stored_shape(x) for x in row]
    forms = layout.formats_of(jnp.shape(p), shapes, wide)
    alike = [
        x is None or (type(x) is form.code if is_code(x) else form.code is None and x.dtype == form.dtypes[0])
        for x, form in zip(row, forms, strict=True)
    ]
    if all(alike):
        return row
    old = [format_stored(x, "float32", layout.dtype(i, wide)) for i, x in enumerate(row)]
    values = layout.tree.flatten_up_to(layout.decode(row, old, wide))
    made = layout.encode(values, forms, engine.noise(path, count))
    return [x if same else y for x, y, same in zip(row, made, alike, strict=True)]


def _residual(new: Rounding | None, p: Array, kept: Array | None) -> Array | None:
    """What the rounding mode keeps beside the weight, from what another has kept."""

    def keeps(mode: Rounding | None) -> Any:
        return None if mode is None else jax.eval_shape(mode.start, p)

    form = lambda x: None if x is None else (x.dtype, x.shape)  # noqa: E731
    if form(keeps(new)) == form(kept):
        return kept
    old = next((x for x in ROUNDINGS.values() if form(keeps(x)) == form(kept)), None)
    master = jnp.asarray(p, jnp.float32) if old is None or kept is None else old.master(p, kept)
    return None if new is None else new.residual(master, p)
