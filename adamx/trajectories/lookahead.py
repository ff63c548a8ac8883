"""Lookahead (arXiv:1907.08610)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._rule import At, Rule, Slot, static
from .._typing import Array, NonNegative


class SlowWeights(NamedTuple):
    """The slot of the slow weights."""

    slow: Any


class Lookahead(Rule[SlowWeights]):
    r"""Fast weights take the updates; every $k$ steps slow ones follow, and the fast ones restart from there.

    $$\phi \leftarrow \phi + \alpha(\theta - \phi), \quad \theta \leftarrow \phi \qquad \text{if } k \mid t$$

    A rule that is chained after an optimizer: it passes updates through, but for the synchronising steps.

    Attributes:
        sync_period: $k$; 5 in the paper.
        slow_step_size: $\alpha$.

    Reference: Zhang et al., arXiv:1907.08610, Algorithm 1.
    """

    slow_step_size: NonNegative = 0.5
    sync_period: int = static(default=5)
    slots = SlowWeights(slow=Slot(init=jnp.array))

    def step(self, g: Array, s: SlowWeights, at: At) -> tuple[Array, SlowWeights]:
        sync = at.t % self.sync_period == 0
        ahead = at.landed(g) - s.slow
        slow = jnp.where(sync, s.slow + self.slow_step_size * ahead, s.slow)
        return jnp.where(sync, slow - at.p, g), SlowWeights(slow)
