"""Reading a monitor's state: metrics for logging, and spikes of gradients."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from .._annotations import Array, Scalar
from .._variables import without_variables
from ..wrappers.guard import guards_in
from ._monitor import MonitorState
from ._spikes import LEAST, Row


def read(state: Any) -> dict[str, Scalar]:
    """The last measurements of the monitor in an optimizer's state, as a flat dictionary for any logger.

    Keys are "group/metric", groups and metrics as `adamx.monitor` names them. This call waits for the
    device and copies from it. Inside a jitted function it returns traced scalars instead.

    Args:
        state: the monitor's state, or one that contains it, such as the state of a chain, of `optax.MultiSteps` or
            Flax's train state, or the `opt_state` of an `nnx.Optimizer`.

    Returns:
        Python floats; zeros before the first step.

    Raises:
        ValueError: there is no monitor in `state`, or there are several.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.diagnostics.monitor(adamx.adam(1e-3))
        >>> params = {"w": jnp.full(3, 2.0), "b": jnp.zeros(2)}
        >>> params, state = opt.step(params, opt.init(params), params)
        >>> values = adamx.diagnostics.read(state)
        >>> round(values["w/step_mean"], 3), values["b/update_norm"], round(values["all/gradient_norm"], 3)
        (1.0, 0.0, 3.464)
    """
    found = find(state)
    values = found.values if isinstance(found.values, Tracer) else np.asarray(found.values)
    number = (lambda x: x) if isinstance(values, Tracer) else float
    return {
        f"{group}/{metric}": number(values[i, j])
        for i, group in enumerate(sorted(found.groups))
        for j, metric in enumerate(sorted(found.metrics))
    }


def last_norm(state: Any) -> Array:
    """The norm of all gradients of the last step that was measured, after `grad_scale` and before `clip_norm`.

    Of `adamx.guard`, which measures every step, skipped or not, and otherwise of `adamx.monitor`. It stays on the
    device: it may be returned from a jitted step.

    Args:
        state: a state with one guard or one monitor in it.

    Returns:
        float32, shape (); 0 before the first step.

    Raises:
        ValueError: there is neither in `state`, or there are several.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt, params = adamx.guard(adamx.adam(0.5)), jnp.array([1.0, 2.0])
        >>> params, state = opt.step(jnp.array([3.0, 4.0]), opt.init(params), params, clip_norm=1.0)
        >>> adamx.last_norm(state)
        Array(5., dtype=float32)
    """
    guards = guards_in(state)
    if len(guards) == 1:
        return without_variables(guards[0].norm)
    if guards:
        raise ValueError(f"the state holds {len(guards)} guards: give the part of it that is meant")
    found = find(state, "guard")
    return found.values[sorted(found.groups).index("all"), sorted(found.metrics).index("gradient_norm")]


class Spike(NamedTuple):
    """A jump of the gradient norm of one leaf.

    Attributes:
        leaf: its path in the tree, such as `['dense']['kernel']`.
        step: the number of the step, from 1.
        z: by how many standard deviations its norm's logarithm was above its running mean; infinite for a gradient
            that is not finite.
    """

    leaf: str
    step: int
    z: float


def spikes(state: Any, least: float = LEAST) -> list[Spike]:
    r"""The jumps of gradient norms that `adamx.monitor` has seen, per leaf, the largest first.

    For each leaf the monitor keeps a running mean $\mu$ and variance $\sigma^2$ of $\log\|g\|$. After 20 measured steps
    it records up to three spikes a leaf: the largest $z = (\log\|g\| - \mu)/\sqrt{\sigma^2 + .1^2}$, the latest with $z
    \ge 5$ if it is later, and the latest gradient that was not finite. Gradients are those that the monitor receives:
    clip after it, as `clip_norm` of `step` does, to see what would have been clipped.

    Args:
        state: the monitor's state, or one that contains it.
        least: the smallest `z` to report.

    Returns:
        `Spike`s of falling `z`, each with its leaf and step.

    Raises:
        ValueError: there is no monitor in `state`, or there are several.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> params = {"w": jnp.ones(3), "b": jnp.ones(2)}
        >>> opt = adamx.diagnostics.monitor(adamx.adam(1e-3))
        >>> state = opt.init(params)
        >>> for t in range(40):
        ...     grads = {"w": jnp.full(3, 0.1), "b": jnp.full(2, 50.0 if t == 30 else 0.1)}
        ...     params, state = opt.step(grads, state, params)
        >>> [(spike.leaf, spike.step) for spike in adamx.diagnostics.spikes(state)]
        [("['b']", 31)]
    """
    found = find(state).spikes
    row = Row(*np.asarray(found.table))
    told: list[Spike] = []
    for i, name in enumerate(sorted(found.leaves)):
        told.append(Spike(name, int(row.step[i]), float(row.z[i])))
        if row.latest[i] > row.step[i]:
            told.append(Spike(name, int(row.latest[i]), float(row.latest_z[i])))
        if row.infinite[i] > 0:
            told.append(Spike(name, int(row.infinite[i]), np.inf))
    return sorted((spike for spike in told if spike.z >= max(least, 1e-6)), key=lambda spike: -spike.z)


def find(state: Any, *others: str) -> MonitorState:
    """The state of the only monitor in `state`, without what it wraps and NNX's variables; `others` would do too."""
    found = [x for x in jax.tree.leaves(state, is_leaf=_is_monitor) if _is_monitor(x)]
    if len(found) != 1:
        names = (*others, "monitor")
        calls = " or ".join(f"`adamx.{name}(opt)`" for name in names)
        cure = "give the part of it that is meant" if found else f"wrap the optimizer, {calls}"
        raise ValueError(f"the state holds {len(found)} {'s or '.join(names)}s: {cure}")
    return without_variables(found[0]._replace(inner=()))


def _is_monitor(x: Any) -> bool:
    return isinstance(x, MonitorState)
