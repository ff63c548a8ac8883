"""Lion (arXiv:2302.06675)."""

from typing import Any, NamedTuple

from .._math import ema, sign
from .._rule import At, Rule, Slot
from .._typing import Array, Beta


class Momentum(NamedTuple):
    """The slot of a rule that keeps a momentum only."""

    mu: Any


class Lion(Rule[Momentum]):
    r"""The sign of an interpolated momentum.

    $$u_t = \mathrm{sign}(\beta_1 m_{t-1} + (1-\beta_1) g_t) \qquad m_t = \beta_2 m_{t-1} + (1-\beta_2) g_t$$

    Attributes:
        b1: weight of the momentum in the step.
        b2: decay rate of the momentum.

    Reference: Chen et al., arXiv:2302.06675, Algorithm 2. Step sizes are 3 to 10 times smaller than Adam's, weight
    decay as many times larger.
    """

    b1: Beta = 0.9
    b2: Beta = 0.99
    slots = Momentum(mu=Slot())

    def step(self, g: Array, s: Momentum, at: At) -> tuple[Array, Momentum]:
        return sign(ema(s.mu, g, self.b1)), Momentum(ema(s.mu, g, self.b2))
