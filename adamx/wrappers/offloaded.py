"""Steps that are taken or not, of states that are partly in host memory."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .. import kernels
from .._annotations import Array, Params
from .._state import State
from .when import when


def step_if(
    ok: Array, take: Callable[..., tuple[Params, Any]], now: tuple[Params, Any], grads: Params, chooses: bool = False
) -> tuple[Params, Any]:
    """`take(now, grads)` if `ok`, else `now`, of two trees; the second is a state, which may be in host memory.

    The compilers for TPUs abort where a loop or branch carries what is there. There the step is taken, and then it is
    chosen array by array, which an engine does while it has its slots on the device.

    Args:
        ok: a boolean, shape ().
        take: returns what has the trees, shapes, dtypes and memories of `now`.
        now: the trees.
        grads: what `take` reads besides.
        chooses: whether `take` is the step of an optimizer whose engine does so, given `ok=`.
    """
    is_away = kernels.is_in_host_memory
    if not isinstance(ok, Tracer) or not any(is_away(x) for x in jax.tree.leaves(now)):
        return when(ok, take, now, grads)
    given, is_state = ({"ok": ok}, lambda x: isinstance(x, State)) if chooses else ({}, None)

    def either(new: Any, old: Any) -> Any:
        if isinstance(old, State):
            return jax.tree.map(lambda x, was: x if is_away(was) else jnp.where(ok, x, was), new, old)
        kept = jnp.where(ok, *kernels.on_device((new, old)))
        return jax.device_put(kept, kernels.HOST) if is_away(old) else kept

    def both(now: tuple[Params, Any], grads: Params) -> tuple[Params, Any]:
        return jax.tree.map(either, take(now, grads, **given), now, is_leaf=is_state)

    return jax.lax.platform_dependent(now, grads, tpu=both, default=functools.partial(when, ok, take))
