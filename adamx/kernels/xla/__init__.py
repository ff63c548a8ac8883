"""The reference backend: the rule's own formulas, compiled by XLA. Supports every step on every platform."""

from collections.abc import Sequence
from typing import Any, cast

from ..._leaf import Step, StepResult
from ..backend import Backend
from .donation import is_placed_anywhere as is_placed_anywhere
from .donation import placed_anywhere
from .donation import stored_like_parameter as stored_like_parameter
from .norm import norm as norm
from .norm import opaque as opaque
from .two_passes import taken_by_platform


def apply(steps: Sequence[Step], total: Any) -> list[StepResult]:
    """The new parameter, stored slots and residual of each leaf."""
    return placed_anywhere(steps, cast(list[StepResult], taken_by_platform(steps, Step.apply, total)))


def update(steps: Sequence[Step | None], total: Any) -> list[StepResult | None]:
    """The update, stored slots and residual of each leaf; `None` where there is no step."""
    return taken_by_platform(steps, Step.update, total)


BACKEND = Backend("xla", None, lambda: None, lambda step: None, apply)
