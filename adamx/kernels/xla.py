"""The reference: the rule's own formulas, compiled by XLA."""

from collections.abc import Sequence
from typing import Any, cast

from .._alike import taken
from .._leaf import Landed, Step


def why_not(step: Step) -> str | None:
    """It takes every step."""
    del step


def land(steps: Sequence[Step], total: Any) -> list[Landed]:
    """Of each leaf the new parameter, the slots as they are stored, and the residual."""
    return cast(list[Landed], taken(steps, Step.land, total))
