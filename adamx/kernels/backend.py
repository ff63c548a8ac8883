"""The interface of a backend: its name, its platforms, the steps it supports, and how it computes them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._annotations import Array
from .._leaf import Step, StepResult


class Summed(NamedTuple):
    """The arrays of one leaf whose elements are summed.

    Attributes:
        given: `MOMENTS` if moments are given, plus `SQUARE` if the second one is to be rooted first, plus `UPDATE` if
            the change of the weights is given; 0 otherwise.
        arrays: gradient, weights before and after, the change and both moments if there are; of one shape.
        plain: whether backends take them as they are: float32, without a given change.
    """

    given: int
    arrays: list[Array]
    plain: bool


MOMENTS, SQUARE, UPDATE = 1, 2, 4


class Sums(NamedTuple):
    """A backend's sums over a step's arrays, for `adamx.diagnostics`.

    Attributes:
        apply: takes the leaves, three float32 numbers and the number of sums; returns float32 (leaves, sums).
    """

    apply: Callable[[Sequence[Summed], Array, int], Array]


class Backend(NamedTuple):
    """One implementation of steps.

    Attributes:
        name: its name in `kernel=`.
        platforms: the platforms it runs on, "cpu", "cuda", "rocm" or "tpu"; `None` for all.
        missing: why it is not available in this process; `None` if it is.
        unsupported_reason: why it does not support a step; `None` if it does. Called while tracing.
        apply: takes steps that it supports and the rule's `measure` over all leaves; returns their results in order.
            Called while lowering for one of `platforms`.
        sums: its sums over a step's arrays, if it has them.
        alone: whether its steps can only be in programs for one platform.
        opaque: whether XLA cannot partition its steps over several devices.
        left_to_xla: why `kernel="auto"` passes it over although it supports a step; `None` if it does not.
    """

    name: str
    platforms: tuple[str, ...] | None
    missing: Callable[[], str | None]
    unsupported_reason: Callable[[Step], str | None]
    apply: Callable[[Sequence[Step], Any], list[StepResult]]
    sums: Sums | None = None
    alone: bool = False
    opaque: bool = False
    left_to_xla: Callable[[Step], str | None] = lambda step: None

    def runs_on(self, platform: str) -> bool:
        """Whether it runs on `platform`."""
        return self.platforms is None or platform in self.platforms
