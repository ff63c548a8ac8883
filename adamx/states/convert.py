"""The state of an optimizer as another one stores it that keeps the same slots."""

from typing import Any

import jax
import jax.numpy as jnp

from .. import _leaves
from .._annotations import Array, Params
from .._check import validate_leaf, validate_state
from .._engine import Engine
from .._layout import Layout, wide_dtype
from .._leaf import Leaf
from .._rule import Modifier, Rule
from .._transform import Optimizer
from .._variables import inside, outside, without_variables
from .._weights import is_narrow
from ..groups import Member
from ..moments import stored_shape
from ..moments.noise import Noise
from ..wrapper import parts_of
from .kept import follow
from .parts import map_states, select_part, steppers


def convert_state(state: Any, from_: Optimizer, to: Optimizer, params: Params) -> Any:
    """The state of `from_` as `to` stores it, to go on with: a checkpoint of float32 in an int8 run, and back.

    The two are of the same rule and differ in `moments`, the size of groups, `mu_dtype` or `weights`. Slots that both
    store alike keep their arrays; others are decoded and encoded as a step of `to` would have: see `pack_state` for
    what that costs. It can be jitted, over whole leaves only: a part of one would be taken for a small leaf.

    Args:
        state: a state of `from_`, or a tree in which all adamx states are its: a chain's, of `optax.MultiSteps`, a
            monitor's. What wrappers in `to` keep, averages and sums of gradients, becomes as they store it; what else
            is in it is left alone, and variables of NNX stay around what they hold.
        from_: the optimizer that made the state; of a chain or partition the part that is adamx's.
        to: the optimizer that will go on with it.
        params: the parameters, or `jax.ShapeDtypeStruct`s like them if both have the same `weights`. Residuals of
            other `weights` are made anew from the master weights, which lose what the new ones cannot hold: without
            any, all that rounding took. To make parameters narrow or wide, take `from_master` and `master_params`.

    Returns:
        The tree of `state`, in which each adamx state is one of `to`, after as many steps.

    Raises:
        ValueError: a leaf of the state is not as `from_` stores it, or of other parameters; `to` is of
            another rule, or keeps other slots; the state is not of the wrappers of `to`.
        TypeError: one of the two is not an adamx optimizer.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> exact, small = adamx.adam(1e-3), adamx.adam(1e-3, moments=adamx.Int8(group=64))
        >>> params = jnp.ones((64, 64))
        >>> params, state = exact.step(params, exact.init(params), params)
        >>> params, state = small.step(params, adamx.convert_state(state, exact, small, params), params)
        >>> adamx.convert_state(state, small, exact, params).slots.nu.dtype
        dtype('float32')
    """
    ways = [steppers(parts_of(opt, without_variables(params))) for opt in (from_, to)]
    shares = [[jax.tree.structure(share) for _, share in way] for way in ways]
    if shares[0] != shares[1]:
        raise ValueError("from_ and to divide the leaves otherwise: convert between optimizers of the same patterns")
    for old, new in zip(*([engine for engine, _ in way] for way in ways), strict=True):
        if (one := _innermost(old.rule)) is not (other := _innermost(new.rule)):
            raise ValueError(
                f"from_ is of {one.__name__}, to of {other.__name__}, which makes another use of its slots: begin with "
                "`to.init(params)`"
            )

    def of(part: Any, old: Engine, new: Engine, params: Params) -> Any:
        own = without_variables(part)
        leaves = _leaves.flatten(select_part(params, old, own), "params")
        validate_state(own, new.layout, new.varying, new.rule)
        rows, residuals = old.rows(leaves, own)
        members = zip(old.members_of(leaves), new.members_of(leaves), strict=True)
        for i, (path, p, (was, now)) in enumerate(zip(leaves.paths, leaves.arrays, members, strict=True)):
            if was.frozen != now.frozen:
                where = _leaves.show("params", path)
                raise ValueError(f"{where} is frozen in one of the two: `adamx.regroup(to, state, params)` does that")
            if p is not None and not now.frozen:
                before, after = (member.rounding if is_narrow(p) else None for member in (was, now))
                leaf = Leaf(path, p, p, rows[i], True, before, residuals[i])
                validate_leaf(leaf, was.layout)
                noise = new.noise(path, own.count)
                rows[i], residuals[i] = _slots(leaf, was.layout, now.layout, noise), _residual(leaf, was, now)
                validate_leaf(leaf._replace(stored=rows[i], rounding=after, residual=residuals[i]), now.layout)
        columns = [outside(column) for column in old.layout.tree.flatten_up_to(part.slots)]
        trees = [jax.tree.structure(column, is_leaf=_leaves.is_stored) for column in columns]
        slots = [inside(tree.unflatten([row[i] for row in rows])) for i, tree in enumerate(trees)]
        kept = [*trees, leaves.tree][0].unflatten(residuals) if jax.tree.leaves(residuals) else ()
        return part._replace(slots=new.layout.tree.unflatten(slots), residuals=kept)

    pairs = [(old, new, share) for (old, share), (new, _) in zip(*ways, strict=True)]
    return follow(to, map_states(of, state, pairs), without_variables(params))


def _innermost(rule: Rule[Any]) -> type:
    """The class of the rule that modifiers are around."""
    while isinstance(rule, Modifier):
        rule = rule.rule
    return type(rule)


def _slots(leaf: Leaf, old: Layout, new: Layout, noise: Noise) -> list[Any]:
    """The stored slots, those unchanged that both store alike."""
    wide, names = wide_dtype(leaf.p), range(len(leaf.stored))
    alike = [[(x.formats[i], x.own_dtype(i)) for i in names] for x in (old, new)]
    values = old.decode(leaf.stored, old.formats_stored(leaf.stored, wide), wide)
    shapes = [None if x is None else stored_shape(x) for x in leaf.stored]
    forms = new.formats_of(jnp.shape(leaf.g), shapes, wide)
    made = new.encode(old.tree.flatten_up_to(values), forms, noise)
    return [x if a == b else y for x, y, a, b in zip(leaf.stored, made, *alike, strict=True)]


def _residual(leaf: Leaf, old: Member, new: Member) -> Array | None:
    """The rounding error of the master weight under the new mode."""
    if old.weights == new.weights:
        return leaf.residual
    if new.rounding is None or not is_narrow(leaf.p):
        return None
    p = jnp.asarray(leaf.p)
    master = p.astype(jnp.float32) if old.rounding is None else old.rounding.master(p, leaf.residual)
    return new.rounding.residual(master, p)
