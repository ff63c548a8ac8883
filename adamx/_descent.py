"""A rule, a step size and weight decay: the order in which they act, in one screen."""

from typing import Any

import jax.numpy as jnp

from ._annotations import Array, NonNegative
from ._context import unless_zero
from ._decay import SHRINK, Decay, Strength
from ._rule import Modifier, StepContext, static
from .idle import descend


class Descent(Modifier):
    """The change of a weight: minus the step size times the rule's direction, minus its decay."""

    learning_rate: NonNegative
    weight_decay: NonNegative
    lr_max: NonNegative | None
    decay: Decay = static(default="decoupled", choices=("l2", *SHRINK))
    maximize: bool = static(default=False)
    elementwise = property(lambda self: self.rule.elementwise)

    @property
    def measures(self) -> bool:
        """Whether the rule does."""
        return self.rule.measures

    def measure(self, g: Array, s: Any, at: StepContext) -> Any:
        return self.rule.measure(self._penalised(g, at), s, at)

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
        direction, s = self.rule.step(self._penalised(g, at), s, at)
        change = self.learning_rate * direction
        if at.decays_by(self.weight_decay) and self.decay != "l2":
            lr_max = self.learning_rate if self.lr_max is None else self.lr_max
            by = Strength(self.weight_decay, self.learning_rate, lr_max)
            shrink = unless_zero(self.weight_decay, SHRINK[self.decay](at.p, direction, by))
            change = change + (jnp.where(at.t > self.preparing, shrink, 0) if self.preparing else shrink)
        return -change, s

    def idle(self, s: Any, at: Any) -> tuple[Array, Any]:
        return descend(self, s, at)

    def _penalised(self, g: Array, at: StepContext) -> Array:
        g = -g if self.maximize else g
        return g + at.decay(self.weight_decay) if self.decay == "l2" else g
