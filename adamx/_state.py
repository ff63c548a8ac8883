"""The state of an optimizer, and the values that its hyperparameters have in a step."""

from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._annotations import Array, DecayRate, Interval, Scalar
from ._leaf import SharedInputs
from ._math import Varying, compensated_add, log_beta
from ._rule import Rule, hyperparameters, replace, validate_value


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
        begun: when leaves began that were thawed by `adamx.regroup`; () if none were.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]  (the field's usual name)
    slots: Any
    log_products: dict[str, LogProduct]
    residuals: Any = ()
    begun: tuple["Begun", ...] = ()

    def begun_at(self, path: Any) -> "Begun | None":
        """When the leaf at a path began; `None` if with the others."""
        name = jax.tree_util.keystr(path, simple=True, separator="/") if self.begun else ""
        return next((x for x in self.begun if name in x.leaves), None)


class Begun(NamedTuple):
    """Leaves that begin after others.

    Attributes:
        count: of the state then.
        log_products: of the state then.
        leaves: their paths, as keys: so they are part of the tree and travel with it.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]  (the field's usual name)
    log_products: dict[str, LogProduct]
    leaves: dict[str, tuple[()]]


class Numbers(NamedTuple):
    """The values of hyperparameters that follow a schedule in a step, the products of decay rates, the step number."""

    values: dict[str, Any]
    products: dict[str, LogProduct]
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]


def last_numbers(rule: Rule[Any], state: State) -> Numbers:
    """Those of the step that led to `state`; of the first step if none is finished."""
    number = jnp.maximum(jnp.asarray(state.count), 1)
    return Numbers(_scheduled(rule, number - 1), state.log_products, number)


def last_step(rule: Rule[Any], state: State) -> SharedInputs:
    """The shared inputs of the step that led to `state`, of leaves of no group; of the first if none is finished."""
    count, numbers = jnp.asarray(state.count), last_numbers(rule, state)
    return SharedInputs(with_values(rule, numbers.values, numbers.products, count), numbers.count)


def scheduled(
    rule: Rule[Any], state: State, learning_rate: Scalar | None = None
) -> tuple[dict[str, Any], dict[str, LogProduct]]:
    """The values in the next step of hyperparameters that follow a schedule, and the products of decay rates up to it.

    Args:
        rule: the rule.
        state: the state before the step.
        learning_rate: the step size of this step; `None` for its own.
    """
    values = _scheduled(rule, state.count)
    products = {
        path: state.log_products[path].plus(jnp.asarray(log_beta(value)))
        for path, value in values.items()
        if path in state.log_products
    }
    if learning_rate is not None:
        if (path := rate_path(rule)) is None:
            raise TypeError(
                f"learning_rate = {learning_rate}, but {type(rule).__name__} has no step size: leave it out"
            )
        validate_value("learning_rate", learning_rate, Interval(0.0, float("inf")))
        values[path] = learning_rate
    return values, products


def rate_path(rule: Rule[Any]) -> str | None:
    """The path in the rule of the step size, of several the innermost; `None` if it has none."""
    found = [h.path for h in hyperparameters(rule) if h.path.rpartition(".")[2] == "learning_rate"]
    return max(found, key=lambda path: path.count("."), default=None)


def _scheduled(rule: Rule[Any], finished: Array) -> dict[str, Any]:
    """The values of hyperparameters that follow a schedule, after `finished` steps."""
    values = {}
    for path, schedule, interval in hyperparameters(rule):
        if callable(schedule):
            value = schedule(finished)
            validate_value(path.rpartition(".")[2], value, interval)
            values[path] = jnp.asarray(value, float) if isinstance(interval, DecayRate) else value
    return values


def with_values(
    rule: Rule[Any],
    values: dict[str, Any],
    products: dict[str, LogProduct],
    count: Array,
    own: Any = MappingProxyType({}),
    begun: Begun | None = None,
) -> Any:
    """The rule with these values; each scheduled decay rate carries the product of its values up to step `count`.

    The values of a group's `own` take the place of others. Products are of the steps since leaves have `begun`.
    """

    def product(path: str) -> Array:
        now = products[path]
        if begun is None:
            return now.total
        then = begun.log_products[path]
        return (now.total - then.total) - (now.lost - then.lost)

    t = (count if begun is None else count - begun.count).astype(float)
    varying = {path: Varying(value, product(path), t) for path, value in values.items() if path in products}
    return replace(rule, values | varying | own)
