"""The step of a table's rows, and their idle steps in its place."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._annotations import Array
from .._leaf import Step, StepResult
from .._rule import hyperparameters, replace
from .._state import scheduled_values
from ..idle import IdleSteps, idle_steps
from ..schedules import reading


@dataclasses.dataclass(frozen=True)
class CatchUp(Step):
    """The idle steps of rows in place of one step."""

    engine: Any = None
    live: Any = ()
    begun: Any = None
    passed: Any = None

    def compute(self, total: Any) -> tuple[Array, Any]:
        """The change of the rows, and their slots after the idle steps."""
        given, real = self.engine.rule, self.at.t.dtype
        rule = replace(self.rule, {h.path: h.value for h in hyperparameters(given) if callable(h.value)})
        s = self.begun.astype(real)[:, None]

        def scheduled(t: Array) -> dict[str, Any]:
            with reading(self.live):
                at = lambda t: scheduled_values(given, t.astype(jnp.int32) - 1)  # noqa: E731
                # In a loop, as XLA would compute them again for each of their uses.
                values = jax.lax.map(jax.vmap(jax.vmap(at)), t.reshape(2 - len(t) % 2, -1, t.shape[1]))
            return {path: x.reshape(t.shape).astype(real) for path, x in values.items()}

        k = self.at.t - 1 - s
        one, passed = lambda j, t: jnp.ones_like(t), lambda: self.passed().astype(real)
        at = IdleSteps(s, k, self.at.p, self.leaf.decays, scheduled, passed, one, lambda: k)
        return idle_steps(rule, self.slots, at)


class Numbered(NamedTuple):
    """Takes the step of rows of a table with the random bits of their elements in the table."""

    make: Any
    ids: Any
    width: int

    def __call__(self, kernel: str, steps: Any, total: Any, ok: Any = None) -> list[StepResult | None]:
        """The results of the one step that there is, by XLA."""
        (step,) = steps
        noise = step.noise
        if self.ids is not None:
            elements = self.ids.astype(jnp.uint32)[:, None] * np.uint32(self.width)
            noise = noise._replace(elements=elements + jnp.arange(self.width, dtype=jnp.uint32)[None])
        return [self.make(step.leaf, step.layout, step.shared, noise).apply(total)]
