r"""Regret, measured online: the loss of all rounds minus that of the best fixed point.

$R(T) = \sum_{t \le T} f_t(\theta_t) - \min_\theta \sum_{t \le T} f_t(\theta)$. A meter is a pair of functions like an
optimizer, whose state can be carried through `lax.scan`. Its sums are compensated, so that a million rounds in float32
lose no digits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from .._annotations import Array, Params
from .._math import compensated_add


class Update(Protocol):
    """One round: takes the state and the point played, returns the next state and the regret so far."""

    def __call__(self, state: Any, *args: Any) -> tuple[Any, Array]: ...  # noqa: D102


class RegretMeter(NamedTuple):
    """A meter of regret.

    Attributes:
        init: makes the state from a point of the shape and dtype of those that will be played.
        update: takes the state and the arguments that the function which made the meter documents; returns the next
            state and the regret so far, shape ().
    """

    init: Callable[[Params], Any]
    update: Update


class Sum(NamedTuple):
    """A running sum, and what its last addition put in too much."""

    total: Array
    lost: Array

    @classmethod
    def zeros_like(cls, x: Array) -> "Sum":
        """The sum of no terms of the shape and dtype of `x`."""
        return cls(jnp.zeros_like(x), jnp.zeros_like(x))

    @property
    def value(self) -> Array:
        """The sum."""
        return self.total - self.lost

    def plus(self, x: Array) -> "Sum":
        """The sum with one more term."""
        return Sum(*compensated_add(self.total, self.lost, x))


class Hindsight(NamedTuple):
    """The loss so far, and the sum of all loss functions: its slope at 0 and its curvature in each coordinate."""

    paid: Sum
    slope: Sum
    curvature: Sum


def regret(comparator: Params) -> RegretMeter:
    r"""Regret against a given point: $\sum_t f_t(\theta_t) - f_t(\theta^*)$.

    `update(state, loss, params)` takes the round's loss, a function of the parameters, and the parameters played.

    Args:
        comparator: $\theta^*$, a tree like the parameters.

    Returns:
        A `RegretMeter`.

    Reference: Zinkevich 2003, as in Kingma & Ba, arXiv:1412.6980, section 4.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> from adamx import theory
        >>> opt, meter = adamx.adam(adamx.schedules.inverse_sqrt(0.5)), theory.regret(jnp.array(3.0))
        >>> loss = lambda x: (x - 3.0) ** 2
        >>> def round_(carry, t):
        ...     params, state, sums = carry
        ...     sums, so_far = meter.update(sums, loss, params)
        ...     params, state = opt.step(jax.grad(loss)(params), state, params)
        ...     return (params, state, sums), so_far
        >>> start = jnp.array(0.0)
        >>> _, so_far = jax.lax.scan(round_, (start, opt.init(start), meter.init(start)), jnp.arange(500))
        >>> so_far[0], bool(so_far[-1] / 500 < 0.2)
        (Array(9., dtype=float32), True)
    """

    def init(params: Params) -> Sum:
        dtype = jnp.result_type(float, *(leaf.dtype for leaf in map(jnp.asarray, jax.tree.leaves(params))))
        return Sum.zeros_like(jnp.zeros([], dtype))

    def update(state: Sum, *args: Any) -> tuple[Sum, Array]:
        loss, params = args
        state = state.plus((loss(params) - loss(comparator)).astype(state.total.dtype))
        return state, state.value

    return RegretMeter(init, update)


def regret_in_hindsight(low: float, high: float) -> RegretMeter:
    r"""Regret against the best fixed point of the box $[low, high]^d$, for losses that are linear or quadratic in it.

    $f_t(\theta) = \sum_i \tfrac12 a_{t,i}\theta_i^2 + b_{t,i}\theta_i$, whose sum is least at
    $-\sum_t b_{t,i} / \sum_t a_{t,i}$, or at the nearer end of the interval. The best point is that of the rounds
    so far and moves with them.

    `update(state, point, slope, curvature)` takes the point played and the round's $b_t$ and $a_t \ge 0$ (0 by
    default, a linear loss), arrays of the point's shape.

    Args:
        low: the lower limit of each coordinate; -inf only if every coordinate meets a quadratic loss.
        high: the upper limit; likewise.

    Returns:
        A `RegretMeter`.

    Raises:
        ValueError: `low` is not below `high`.

    Reference: Zinkevich 2003, as in Kingma & Ba, arXiv:1412.6980, section 4.

    Examples:
        >>> import jax.numpy as jnp
        >>> from adamx import theory
        >>> meter = theory.regret_in_hindsight(-1, 1)
        >>> state, so_far = meter.update(meter.init(jnp.array(0.0)), jnp.array(0.0), jnp.array(5.0))
        >>> meter.update(state, jnp.array(1.0), jnp.array(-1.0))[1]     # paid 0 and -1; at -1: -5 and 1
        Array(3., dtype=float32)
    """
    if not low < high:
        raise ValueError(f"low = {low} should be below high = {high}")

    def init(params: Params) -> Hindsight:
        point = jnp.asarray(params)
        paid = Sum.zeros_like(jnp.zeros([], point.dtype))
        return Hindsight(paid, Sum.zeros_like(point), Sum.zeros_like(point))

    def update(state: Hindsight, *args: Any) -> tuple[Hindsight, Array]:
        point, slope, *rest = args
        curvature = rest[0] if rest else jnp.zeros_like(slope)
        state = Hindsight(
            state.paid.plus(jnp.sum(curvature / 2 * point**2 + slope * point)),
            state.slope.plus(slope),
            state.curvature.plus(curvature),
        )
        a, b = state.curvature.value, state.slope.value
        curved = a > 0
        best = jnp.where(curved, jnp.clip(-b / jnp.where(curved, a, 1), low, high), jnp.where(b > 0, low, high))
        least = jnp.where(b == 0, 0, b * best) + jnp.where(curved, a / 2 * best**2, 0)
        return state, state.paid.value - jnp.sum(least)

    return RegretMeter(init, update)
