"""Type aliases of signatures, and the annotations that give a hyperparameter its allowed interval."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias

import jax

Array: TypeAlias = jax.Array
"""One array: a leaf of the parameters, or a scalar."""

Params: TypeAlias = Any
"""A pytree of arrays: parameters, and whatever is shaped like them (gradients, updates). `None` is an absent leaf."""

Scalar: TypeAlias = float | Array
"""A hyperparameter's value: a Python number (kept in double precision) or a traced array of shape ()."""

AxisName: TypeAlias = str | Sequence[str] | None
"""Axes of the mesh of a `jax.shard_map` along which leaves are cut."""

Schedule: TypeAlias = Callable[[Any], Any]
"""A hyperparameter that changes: maps the number of finished steps (int32, shape (), from 0) to its value, a Scalar."""

ScalarOrSchedule: TypeAlias = Scalar | Schedule
"""The type of a hyperparameter in every factory."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """The values a hyperparameter may take: low <= value < high."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value < self.high

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g})"


class Above(Interval):
    """low < value < high."""

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) and value != self.low

    def __str__(self) -> str:
        return f"({self.low:g}, {self.high:g})"


class Fixed(Interval):
    """An interval for values that cannot follow a schedule."""


class FixedAbove(Fixed, Above):
    """low < value < high, without a schedule."""


class DecayRate(Interval):
    """The interval of the decay rate of an average; for a schedule the engine keeps the product of its values."""


Beta: TypeAlias = Annotated[Any, DecayRate(0.0, 1.0)]
"""A rule's field for the decay rate of an average: a ScalarOrSchedule when the rule is built, a number in `step`.

A schedule is corrected for bias by 1 - b_1 b_2 ... b_t. Through `optax.inject_hyperparams` only the present value is
known, and the correction is 1 - b_t^t: give schedules of decay rates to the optimizer itself.
"""

NonNegative: TypeAlias = Annotated[Any, Interval(0.0, float("inf"))]
"""A rule's field for a step size, an epsilon, a strength: a ScalarOrSchedule when built, a number in `step`."""

Positive: TypeAlias = Annotated[Any, Above(0.0, float("inf"))]
"""A rule's field for a number that is divided by."""

Initial: TypeAlias = Annotated[Any, Fixed(0.0, float("inf"))]
"""A rule's field for a slot's initial value: a number or a traced scalar."""

Weight: TypeAlias = Annotated[Any, FixedAbove(0.0, 1.0)]
"""A rule's field for the share of one iterate in another: a number or a traced scalar."""
