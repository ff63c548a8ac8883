"""The state of an optimizer, and the values that its hyperparameters have in a step."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from ._annotations import Array, DecayRate, Interval, Scalar
from ._math import compensated_add, log_beta
from ._rule import Rule, hyperparameters, innermost, validate_value
from .schedules import reading


class LogProduct(NamedTuple):
    """The running sum of log(b) of a scheduled decay rate, and the rounding error of its last addition."""

    total: Array
    lost: Array

    def plus(self, x: Array) -> "LogProduct":
        """The sum after adding `x`."""
        return LogProduct(*compensated_add(self.total, self.lost, x))


class State(NamedTuple):
    """The state of an optimizer.

    Attributes:
        count: the number of finished steps; int32, shape ().
        slots: the rule's buffers, a NamedTuple of trees shaped like the parameters (`mu`, `nu` ...).
        residuals: the rounding errors kept beside 16-bit weights, a tree like the parameters; () if there are none.
        log_products: for each decay rate that follows a schedule, the log of the product of its values so far.
        live: the hyperparameters that are kept in the state, by name: float32, shape (); () if there are none.
        begun: a `shared.Begun` for the leaves of each `adamx.regroup` that thawed some; () if none did.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]  (the field's usual name)
    slots: Any
    log_products: dict[str, LogProduct]
    residuals: Any = ()
    live: Any = ()
    begun: tuple[Any, ...] = ()


def scheduled(
    rule: Rule[Any], state: State, learning_rate: Scalar | None = None
) -> tuple[dict[str, Any], dict[str, LogProduct]]:
    """The values in the next step of hyperparameters that follow a schedule, and the products of decay rates up to it.

    Args:
        rule: the rule.
        state: the state before the step.
        learning_rate: the step size of this step; `None` for its own.
    """
    with reading(state.live):
        values = scheduled_values(rule, state.count)
    products = {
        path: state.log_products[path].plus(jnp.asarray(log_beta(value)))
        for path, value in values.items()
        if path in state.log_products
    }
    if learning_rate is not None:
        validate_value("learning_rate", learning_rate, Interval(0.0, float("inf")))
        if (path := innermost(rule, "learning_rate")) is None:
            raise TypeError(f"learning_rate = {learning_rate}: this transformation has no step size; leave it out")
        values[path] = learning_rate
    return values, products


def scheduled_values(rule: Rule[Any], finished: Array) -> dict[str, Any]:
    """The values of hyperparameters that follow a schedule, after `finished` steps."""
    values = {}
    for path, schedule, interval in hyperparameters(rule):
        if callable(schedule):
            value = schedule(finished)
            validate_value(path.rpartition(".")[2], value, interval)
            values[path] = jnp.asarray(value, float) if isinstance(interval, DecayRate) else value
    return values
