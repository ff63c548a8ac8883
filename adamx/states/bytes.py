"""How many bytes an optimizer's state takes."""

from typing import Any, NamedTuple

import jax

from .._annotations import Params
from ..moments import format_name, is_code
from ..wrapper import is_state
from .kept import kept_of_leaves


class StateBytes(NamedTuple):
    """The size of a state.

    Attributes:
        slots: bytes of each slot, by name.
        residuals: bytes kept beside weights.
        wrappers: bytes of what wrappers keep of leaves, by where it stands, as in "averages.0.average" or "sums".
        total: bytes in all, the count and whatever else wraps the state included.
        per_parameter: `total` divided by the number of parameters.
        formats: bytes of all slots together, by the name of the format that they are stored in, as in `explain`.
    """

    slots: dict[str, int]
    residuals: int
    wrappers: dict[str, int]
    total: int
    per_parameter: float
    formats: dict[str, int]


def state_bytes(opt: Any, params: Params) -> StateBytes:
    """The bytes of the state that `opt.init(params)` makes, without making it.

    Args:
        opt: an optimizer, or any Optax transformation that contains an adamx optimizer.
        params: arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        A `StateBytes`: bytes of each slot, of the residuals and in all, bytes for each parameter, and bytes by storage
        format.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> params = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)
        >>> size = adamx.state_bytes(adamx.adam(1e-3, moments="int8", weights="split8"), params)
        >>> size.slots["mu"], size.residuals, round(size.per_parameter, 3)
        (17039360, 16777216, 3.031)
        >>> size.formats
        {'int8': 34078720}
    """
    state = jax.eval_shape(opt.init, params)
    slots: dict[str, int] = {}
    formats: dict[str, int] = {}
    residuals = 0
    for part in jax.tree.leaves(state, is_leaf=is_state):
        if is_state(part):
            residuals += _bytes(part.residuals)
            for name, column in getattr(part.slots, "_asdict", dict)().items():
                slots[name] = slots.get(name, 0) + _bytes(column)
            for x in jax.tree.leaves(part.slots, is_leaf=is_code):
                formats[format_name(x)] = formats.get(format_name(x), 0) + _bytes(x)
    wrappers: dict[str, int] = {}
    for kept in kept_of_leaves(state, params):
        wrappers[kept.name] = wrappers.get(kept.name, 0) + kept.bytes
    total = _bytes(state)
    parameters = sum(x.size for x in jax.tree.leaves(params))
    return StateBytes(slots, residuals, wrappers, total, total / max(parameters, 1), formats)


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
