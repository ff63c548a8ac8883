"""The reference: the rule's own formulas, compiled by XLA. It takes every step, everywhere."""

from collections.abc import Sequence
from typing import Any, cast

from ..._leaf import Step, StepResult
from ..backend import Backend
from .shared_functions import taken


def apply(steps: Sequence[Step], total: Any) -> list[StepResult]:
    """Of each leaf the new parameter, the slots as they are stored, and the residual."""
    return cast(list[StepResult], taken(steps, Step.apply, total))


def update(steps: Sequence[Step | None], total: Any) -> list[StepResult | None]:
    """Of each leaf the direction, the slots as they are stored, and the residual; `None` where there is no step."""
    return taken(steps, Step.update, total)


BACKEND = Backend("xla", None, lambda: None, lambda step: None, apply)
