"""The hyperparameters of an optimizer: those of the coming step, and those that live in its state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._annotations import Interval, Scalar
from .._names import validate_choice
from .._rule import Hyperparameter, innermost, validate_value
from .._rule import hyperparameters as fields
from .._state import scheduled
from .._transform import Optimizer, engine_of, owner_of
from .._variables import without_variables
from ..pathwise import ByPath, ByPathState
from ..schedules import reading
from ..wrapper import Wrapper, is_state, states_in
from .parts import find_state


def hyperparameters(opt: Optimizer, state: Any) -> dict[str, Scalar]:
    """The hyperparameters of the next step, schedules evaluated: what a training loop logs.

    Args:
        opt: the optimizer, which may be wrapped.
        state: its state, or one that holds it, such as a chain's.

    Returns:
        By name, numbers as they were given or arrays of shape (). Of a group, those that differ, as "group/name". Of
        two different numbers of one name, of a rule and of one within it, both have their path as their name,
        "rule.b1". Of `adamx.by_path`, those of each optimizer as "pattern/name".

    Raises:
        TypeError: `opt` is not an adamx optimizer.
        ValueError: not one adamx state in `state`, or not one of `adamx.by_path`.

    Examples:
        >>> import adamx, jax.numpy as jnp, optax
        >>> opt = adamx.adamw(optax.linear_schedule(0.1, 0.0, 10), groups=[adamx.Group("bias", weight_decay=0.0)])
        >>> state = opt.init({"kernel": jnp.ones(2), "bias": jnp.ones(2)})
        >>> adamx.hyperparameters(opt, state)["b2"], adamx.hyperparameters(opt, state)["bias/weight_decay"]
        (0.999, 0.0)
    """
    owner = owner_of(opt)
    while isinstance(owner, Wrapper) and not isinstance(owner, ByPath):
        owner = owner_of(owner.opt)
    if isinstance(owner, ByPath):
        states = [x for x in jax.tree.leaves(state, is_leaf=_is_by_path) if _is_by_path(x)]
        if len(states) != 1:
            raise ValueError(f"there are {len(states)} states of adamx.by_path in it: give the one that is meant")
        return {
            f"{name}/{key}": x
            for name, one in owner.opt.items()
            if isinstance(one, Optimizer)
            for key, x in hyperparameters(one, states[0].parts[name]).items()
        }
    engine, own = engine_of(opt), without_variables(find_state(state))
    values, _ = scheduled(engine.rule, own)
    with reading(own.live):
        groups = {member.name: member.own(engine.rule, values, own.count) for member in engine.members}
    inner = {h.name: h for h in fields(engine.rule) if h.path == innermost(engine.rule, h.name)}
    found = [h for h in fields(engine.rule) if not _says_nothing(h, inner[h.name])]
    last = [h.name for h in found]
    names = {h.path: h.name if last.count(h.name) == 1 else h.path for h in found}
    told = {names[h.path]: values.get(h.path, h.value) for h in found}
    return told | {f"{group}/{names[path]}": x for group, found in groups.items() for path, x in found.items()}


def set_hyperparameters(state: Any, **values: Scalar) -> Any:
    """The state with other values of the hyperparameters that live in it, see `adamx.live`.

    Of several optimizers, as those of `adamx.by_path`, a number is set in all that have one of its name: for their own
    give them names of their own, or set those of one, in `state.parts[pattern]`.

    Args:
        state: an optimizer's state, or one that holds it: a chain's, a wrapper's, `opt_state` of Flax.
        **values: numbers or arrays of shape (), by name. The state does not know their ranges: a jitted step takes
            what is there.

    Returns:
        A state like `state`, with the new values in float32.

    Raises:
        ValueError: no such number lives in the state, or it is infinite or NaN.
        TypeError: a value is not a number.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adam(adamx.live("learning_rate", 0.5))
        >>> params = jnp.array([1.0])
        >>> state = adamx.set_hyperparameters(opt.init(params), learning_rate=0.25)
        >>> opt.step(params, state, params)[0]
        Array([0.75], dtype=float32)
    """
    known = dict.fromkeys(name for own in states_in(state) for name in own.live or ())
    for name, value in values.items():
        if not known:
            raise ValueError(f"no {name} lives in the state: make the optimizer with adamx.live({name!r}, ...)")
        validate_choice("the live hyperparameter", name, known)
        validate_value(name, value, Interval(-float("inf"), float("inf")))

    def put(own: Any) -> Any:
        if not is_state(own) or not own.live:
            return own
        new = {name: _like(x, values[name]) if name in values else x for name, x in own.live.items()}
        return own._replace(live=new)

    return jax.tree.map(put, state, is_leaf=is_state)


def _says_nothing(h: Hyperparameter, inner: Hyperparameter) -> bool:
    """Whether it repeats the innermost rule's number of its name, or is what changes nothing around that."""
    neutral = {"learning_rate": 1.0, "weight_decay": 0.0}.get(h.name)
    x, y = h.value, inner.value
    if h.path == inner.path or x is y:
        return h.path != inner.path
    return isinstance(x, (int, float)) and (x == neutral or (isinstance(y, (int, float)) and x == y))


def _is_by_path(x: Any) -> bool:
    return isinstance(x, ByPathState)


def _like(old: Any, value: Scalar) -> Any:
    """The value where and as the old one is: a step would be compiled a second time for another."""
    old = without_variables(old)
    traced = isinstance(value, Tracer) or isinstance(old, Tracer)
    return jnp.asarray(value, jnp.float32) if traced else jax.lax.full_like(old, np.asarray(value))
