"""A preset: a framework's argument names and defaults, and the rule, step size and decay that they stand for."""

import dataclasses
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Interval, ScalarOrSchedule, Schedule
from .._decay import Decay
from .._names import validate_choice
from .._optimizer import optimizer
from .._rule import Rule, validate_value
from .._transform import Optimizer


class _Required:
    def __repr__(self) -> str:
        return "?"


REQUIRED = _Required()
"""Marks an argument for which the framework has no default."""


class Recipe(NamedTuple):
    """The parts of an optimizer.

    Attributes:
        rule: how one array is updated.
        learning_rate: the framework's step size.
        weight_decay: strength of the decay; `None` if the framework's optimizer has none.
        decay: the kind of decay, as in `adamx.optimizer`.
        step: the factor of the rule's direction, if it is not the step size, which then enters the decay only.
        maximize: whether to maximize.
        complex_parts: how complex leaves are treated, as in `adamx.optimizer`.
    """

    rule: Rule[Any]
    learning_rate: ScalarOrSchedule
    weight_decay: ScalarOrSchedule | None = None
    decay: Decay = "decoupled"
    step: ScalarOrSchedule | None = None
    maximize: bool = False
    complex_parts: str = "together"

    def optimizer(self, mask: Any, **storage: Any) -> Optimizer:
        """The optimizer; `storage` are keywords of `adamx.optimizer` for slots and weights."""
        weight_decay = 0.0 if self.weight_decay is None else self.weight_decay
        storage |= {"maximize": self.maximize, "complex_parts": self.complex_parts}
        if self.step is None:
            storage |= {"weight_decay": weight_decay, "decay": self.decay}
            return optimizer(self.rule, self.learning_rate, mask=mask, **storage)
        strength = times(self.learning_rate, weight_decay)
        return optimizer(self.rule, self.step, weight_decay=strength, mask=mask, decay="constant", **storage)


@dataclasses.dataclass(frozen=True)
class Preset:
    """One optimizer of one framework.

    Attributes:
        framework: the framework's name, in lower case.
        optimizer: the optimizer's name, in lower case.
        defaults: the framework's argument names and defaults; `REQUIRED` where it has none.
        build: a function from the arguments, as attributes, to a `Recipe`.
        notes: pitfalls, in Markdown.
    """

    framework: str
    optimizer: str
    defaults: Mapping[str, Any]
    build: Callable[[Any], Recipe]
    notes: str = ""

    def recipe(self, **overrides: Any) -> Recipe:
        """The optimizer with some arguments changed.

        Args:
            **overrides: the framework's arguments, under its names.

        Returns:
            A `Recipe`: rule, step size and decay.

        Raises:
            ValueError: an argument that the framework does not have; a missing required one; a tuple of another
                length than the default.
        """
        for name, value in overrides.items():
            validate_choice(f"argument of {self.framework} {self.optimizer}", name, self.defaults)
            default = self.defaults[name]
            if isinstance(default, tuple) and not (isinstance(value, (tuple, list)) and len(value) == len(default)):
                raise ValueError(f"{name} = {value!r} should be {len(default)} values, as the default {default}")
        arguments = {**self.defaults, **overrides}
        for name, value in arguments.items():
            if value is REQUIRED:
                raise ValueError(
                    f"{self.framework} has no default for {name}: give it, "
                    f"preset({self.framework!r}, {self.optimizer!r}, {name}=...)"
                )
        return self.build(SimpleNamespace(**arguments))


def is_zero(x: Any) -> bool:
    """Whether `x` is `None` or the Python number 0."""
    return x is None or (isinstance(x, (int, float)) and x == 0)


def derived(f: Callable[..., Array], **parts: ScalarOrSchedule) -> Schedule:
    """The schedule `f(t, *values)` of the number of finished steps `t` and the values of `parts` at `t`."""
    for name, part in parts.items():
        if not callable(part):
            validate_value(name, part, Interval(0.0, float("inf")))

    def schedule(count: Array) -> Array:
        values = [part(count) if callable(part) else part for part in parts.values()]
        return f(*(jnp.asarray(x, float) for x in (count, *values)))

    return schedule


def times(learning_rate: ScalarOrSchedule, by: ScalarOrSchedule) -> ScalarOrSchedule:
    """The product of two hyperparameters, each a number, an array or a schedule."""
    if isinstance(learning_rate, (int, float)) and isinstance(by, (int, float)):
        return learning_rate * by
    return derived(lambda t, a, b: a * b, learning_rate=learning_rate, by=by)


def inverse_time(learning_rate: ScalarOrSchedule, rate: ScalarOrSchedule) -> ScalarOrSchedule:
    r"""$\alpha/(1 + t d)$, t from 0."""
    if is_zero(rate):
        return learning_rate
    return derived(lambda t, a, d: a / (1 + t * d), learning_rate=learning_rate, rate=rate)


def at_most_inverse_sqrt(learning_rate: ScalarOrSchedule) -> Schedule:
    r"""$\min(\alpha, 1/\sqrt t)$, t from 1: Adafactor's relative step."""
    return derived(lambda t, a: jnp.minimum(a, 1 / jnp.sqrt(t + 1)), learning_rate=learning_rate)
