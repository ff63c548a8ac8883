"""How many bytes an optimizer's state takes, and the float32 weights that narrow ones stand for."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import _leaves
from ._engine import Optimizer, State
from ._names import choose
from ._typing import Params
from ._weights import ROUNDINGS, is_narrow


class StateBytes(NamedTuple):
    """The size of a state.

    Attributes:
        slots: bytes of each slot, by name.
        residuals: bytes kept beside weights.
        total: bytes in all, the count and whatever wraps the state included.
        per_parameter: `total` divided by the number of parameters.
    """

    slots: dict[str, int]
    residuals: int
    total: int
    per_parameter: float


def state_bytes(opt: Any, params: Params) -> StateBytes:
    """The bytes of the state that `opt.init(params)` makes, without making it.

    Args:
        opt: an optimizer, or any Optax transformation that has one of adamx's in it.
        params: arrays or `jax.ShapeDtypeStruct`s.

    >>> import adamx, jax, jax.numpy as jnp
    >>> params = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)
    >>> size = adamx.state_bytes(adamx.adam(1e-3, moments="int8", weights="split8"), params)
    >>> size.slots["mu"], size.residuals, round(size.per_parameter, 3)
    (17039360, 16777216, 3.031)
    """
    state = jax.eval_shape(opt.init, params)
    slots: dict[str, int] = {}
    residuals = 0
    for part in jax.tree.leaves(state, is_leaf=_is_state):
        if isinstance(part, State):
            residuals += _bytes(part.residuals)
            for name, column in getattr(part.slots, "_asdict", dict)().items():
                slots[name] = slots.get(name, 0) + _bytes(column)
    total = _bytes(state)
    parameters = sum(x.size for x in jax.tree.leaves(params))
    return StateBytes(slots, residuals, total, total / max(parameters, 1))


def master_params(weights: str, state: Any, params: Params) -> Params:
    """The float32 weights that narrow parameters and the residuals in `state` stand for.

    Args:
        weights: the optimizer's mode: "kahan", "split8", "split16" (or another, which keeps nothing: the parameters).
        state: the optimizer's state, or one that holds it.
        params: the parameters.

    Raises:
        ValueError: an unknown mode, or not one state of adamx's in `state`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adam(1e-3, weights="split16")
    >>> params, state = adamx.from_master("split16", jnp.full(2, 0.1), opt, jnp.bfloat16)
    >>> params, adamx.master_params("split16", state, params)
    (Array([0.100098, 0.100098], dtype=bfloat16), Array([0.1, 0.1], dtype=float32))
    """
    rounding = ROUNDINGS[choose("weights", weights, ROUNDINGS)]
    residuals = _only_state(state).residuals
    if rounding is None or not jax.tree.leaves(residuals):
        return jax.tree.map(lambda p: jnp.asarray(p, jnp.promote_types(p.dtype, jnp.float32)), params)
    leaves = _leaves.flatten(params, "params")
    kept = _leaves.match(leaves, residuals, "residuals")
    pairs = zip(leaves.arrays, kept, strict=True)
    return leaves.rebuild([p if p is None or not is_narrow(p) else rounding.master(p, r) for p, r in pairs])


def from_master(weights: str, params: Params, opt: Optimizer, dtype: Any) -> tuple[Params, Any]:
    """Narrow parameters and a fresh state that stand for float32 ones: the inverse of `master_params`.

    Args:
        weights: the optimizer's mode.
        params: float32 parameters.
        opt: the optimizer, made with that mode.
        dtype: bfloat16 or float16.

    Returns:
        The parameters in `dtype`, rounded to nearest, and `opt`'s first state with what rounding took.
    """
    rounding = ROUNDINGS[choose("weights", weights, ROUNDINGS)]
    narrow = jax.tree.map(lambda p: p.astype(dtype), params)
    state = opt.init(narrow)
    if rounding is None or not jax.tree.leaves(state.residuals):
        return narrow, state
    return narrow, state._replace(residuals=jax.tree.map(rounding.residual, params, narrow))


def _only_state(state: Any) -> State:
    found = [x for x in jax.tree.leaves(state, is_leaf=_is_state) if _is_state(x)]
    if len(found) != 1:
        raise ValueError(f"there are {len(found)} states of adamx's optimizers in it: give the one that is meant")
    return found[0]


def _is_state(x: Any) -> bool:
    return isinstance(x, State)


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
