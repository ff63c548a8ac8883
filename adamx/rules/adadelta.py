"""AdaDelta (arXiv:1212.5701, Algorithm 1)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._math import abs_sq, div_no_nan, ema
from .._rule import At, Rule, Slot
from .._typing import Array, Beta, NonNegative


class Accumulators(NamedTuple):
    """The mean square of the gradient, and of the updates."""

    nu: Any
    nu_delta: Any


class AdaDelta(Rule[Accumulators]):
    r"""The gradient in units of its own root mean square, times that of the updates so far.

    $$v_t = \rho v_{t-1} + (1-\rho) g_t^2 \qquad
      u_t = \frac{\sqrt{w_{t-1} + \varepsilon}}{\sqrt{v_t + \varepsilon}} g_t \qquad
      w_t = \rho w_{t-1} + (1-\rho) u_t^2$$

    Attributes:
        rho: decay rate of both averages.
        eps: in units of the squared gradient, and of the squared weight.

    Reference: Zeiler, arXiv:1212.5701, Algorithm 1 (no step size there: 1).
    """

    rho: Beta = 0.9
    eps: NonNegative = 1e-6
    elementwise = True
    eps_place = "√(v + ε)"
    corrected_averages = "none"
    slots = Accumulators(nu=Slot(nonnegative=True), nu_delta=Slot(nonnegative=True))

    def step(self, g: Array, s: Accumulators, at: At) -> tuple[Array, Accumulators]:
        nu = ema(s.nu, abs_sq(g), self.rho)
        u = div_no_nan(jnp.sqrt(s.nu_delta + self.eps) * g, jnp.sqrt(nu + self.eps))
        return u, Accumulators(nu, ema(s.nu_delta, abs_sq(u), self.rho))
