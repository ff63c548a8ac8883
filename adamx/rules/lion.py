"""Lion (arXiv:2302.06675)."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._math import ema, sign
from .._rule import At, Rule, Slot, static
from .._typing import Array, Beta, NonNegative, Scalar


class Momentum(NamedTuple):
    """The slot of a rule that keeps a momentum only."""

    mu: Any


def hard(x: Array, beta: Scalar) -> Array:
    """The sign."""
    del beta
    return sign(x)


def smooth(x: Array, beta: Scalar) -> Array:
    r"""$\tanh(\beta |x|)$ in the direction of `x`."""
    return jnp.tanh(beta * jnp.abs(x)) * sign(x)


def refined(x: Array, beta: Scalar) -> Array:
    """`x` itself where it is shorter than 1, else its sign."""
    del beta
    return jnp.where(jnp.abs(x) < 1, x, sign(x))


SIGNS: Mapping[str, Callable[[Array, Scalar], Array]] = MappingProxyType(
    {"hard": hard, "smooth": smooth, "refined": refined}
)


class Lion(Rule[Momentum]):
    r"""The sign of an interpolated momentum.

    $$u_t = \mathrm{sign}(\beta_1 m_{t-1} + (1-\beta_1) g_t) \qquad m_t = \beta_2 m_{t-1} + (1-\beta_2) g_t$$

    Attributes:
        b1: weight of the momentum in the step.
        b2: decay rate of the momentum.
        mode: "hard" takes the sign; "smooth" $\tanh(\beta x)$ and "refined" $\max(-1, \min(x, 1))$, Optax's, instead.
        smooth_beta: $\beta$ of "smooth".

    Reference: Chen et al., arXiv:2302.06675, Algorithm 2. Step sizes are 3 to 10 times smaller than Adam's, weight
    decay as many times larger.
    """

    b1: Beta = 0.9
    b2: Beta = 0.99
    mode: str = static(default="hard", choices=tuple(SIGNS))
    smooth_beta: NonNegative = 1.0
    elementwise = True
    eps_place = "none"
    corrected_averages = "none"
    slots = Momentum(mu=Slot())

    def step(self, g: Array, s: Momentum, at: At) -> tuple[Array, Momentum]:
        return SIGNS[self.mode](ema(s.mu, g, self.b1), self.smooth_beta), Momentum(ema(s.mu, g, self.b2))
