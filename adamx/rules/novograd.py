"""NovoGrad (arXiv:1905.11286)."""

import jax.numpy as jnp

from .._math import abs_sq, adam_ratio, ema
from .._rule import At, Moments, Rule, Slot
from .._typing import Array, Beta, NonNegative


class NovoGrad(Rule[Moments]):
    r"""Momentum of gradients of unit length: one second moment for each leaf.

    $$v_t = \beta_2 v_{t-1} + (1-\beta_2) \|g_t\|^2,\ v_1 = \|g_1\|^2 \qquad
      u_t = m_t = \beta_1 m_{t-1} + \frac{g_t}{\sqrt{v_t + \bar\varepsilon} + \varepsilon} + \lambda p$$

    Attributes:
        b1: decay rate of the momentum.
        b2: decay rate of the squared length.
        eps: added to the root, in units of the gradient's length.
        eps_root: added inside the root.
        weight_decay: λ; in the momentum, as the paper has it.

    Reference: Ginsburg et al., arXiv:1905.11286, Algorithm 1 (b1=.95, b2=.98).
    """

    b1: Beta = 0.9
    b2: Beta = 0.25
    eps: NonNegative = 1e-6
    eps_root: NonNegative = 0.0
    weight_decay: NonNegative = 0.0
    eps_place = "√v + ε"
    corrected_averages = "none"
    slots = Moments(mu=Slot(), nu=Slot(init=lambda p, dtype: jnp.zeros([], dtype), nonnegative=True))
    elementwise = False

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        square = jnp.sum(abs_sq(g))
        nu = jnp.where(at.t == 1, square, ema(s.nu, square, self.b2))
        n = adam_ratio(g, nu, self.eps, self.eps_root) + at.decay(self.weight_decay)
        mu = self.b1 * s.mu + n
        return mu, Moments(mu, nu)
