"""What a backend is to the others: a name, where it runs, what it takes, and how it takes it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._annotations import Array
from .._leaf import Step, StepResult


class Summed(NamedTuple):
    """One leaf whose elements are added up.

    Attributes:
        given: `MOMENTS` if there are moments, plus `SQUARE` if the second one's root is meant; 0 without.
        arrays: gradient, weights before and after, both moments if there are; float32, of one size.
    """

    given: int
    arrays: list[Array]


MOMENTS, SQUARE = 1, 2


class Sums(NamedTuple):
    """How a backend adds up what a step did (`adamx.diagnostics`).

    Attributes:
        unsupported_reason: why it cannot where this is called; `None` if it can.
        apply: from the leaves, three float32 numbers and the number of sums, a float32 array (leaves, sums).
    """

    unsupported_reason: Callable[[], str | None]
    apply: Callable[[Sequence[Summed], Array, int], Array]


class Backend(NamedTuple):
    """One way to take steps.

    Attributes:
        name: what `kernel=` calls it.
        platforms: where it runs, by JAX's names: "cpu", "cuda", "rocm", "tpu"; `None` for everywhere.
        missing: why it is not available in this process; `None` if it is.
        unsupported_reason: why it cannot take a step; `None` if it can. Asked while tracing, of shapes and dtypes.
        apply: from steps that it can take and what the rule measured of all leaves, in the order of the steps the new
            parameter, the slots as they are stored, and the residual. Called while lowering for one of `platforms`.
        sums: how it adds up what a step did, if it does.
    """

    name: str
    platforms: tuple[str, ...] | None
    missing: Callable[[], str | None]
    unsupported_reason: Callable[[Step], str | None]
    apply: Callable[[Sequence[Step], Any], list[StepResult]]
    sums: Sums | None = None

    def runs_on(self, platform: str) -> bool:
        """Whether `platform` is one of its."""
        return self.platforms is None or platform in self.platforms
