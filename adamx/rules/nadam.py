"""NAdam with Dozat's momentum schedule (ICLR 2016 workshop); `Adam(nesterov=True)` is the form without it."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._rule import At, MomentEstimates, Rule, Slot
from .._typing import Array, Beta, NonNegative


class ScheduledMoments(NamedTuple):
    """The two moments, and the product of the scheduled momenta so far (a scalar)."""

    mu: Any
    nu: Any
    product: Any


class NAdam(Rule[ScheduledMoments]):
    r"""Adam with Nesterov momentum that warms up.

    $$\mu_t = \beta_1 (1 - \tfrac12\,.96^{t\psi}) \qquad
      \bar m_t = \frac{\mu_{t+1} m_t}{1 - \prod_{i \le t+1} \mu_i} + \frac{(1-\mu_t) g_t}{1 - \prod_{i \le t} \mu_i}
      \qquad u_t = \bar m_t / (\sqrt{\hat v_t} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean, and the limit of the momentum.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        momentum_decay: $\psi$, how slowly the momentum warms up; 4e-3 in PyTorch, 1 in Keras.

    Reference: Dozat, ICLR 2016 workshop; the schedule as in PyTorch's NAdam.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    momentum_decay: NonNegative = 4e-3
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "m by its schedule, v"
    slots = ScheduledMoments(
        mu=Slot(unit=lambda s: jnp.sqrt(s.nu)),
        nu=Slot(nonnegative=True),
        product=Slot(init=lambda p, dtype: jnp.ones([], dtype), nonnegative=True),
    )

    def step(self, g: Array, s: ScheduledMoments, at: At) -> tuple[Array, ScheduledMoments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        here, ahead = (self.b1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (at.t, at.t + 1))
        product = s.product * here
        m_bar = mu * (ahead / (1 - product * ahead)) + g * ((1 - here) / (1 - product))
        return adam_ratio(m_bar, debias(nu, self.b2, at.t), self.eps), ScheduledMoments(mu, nu, product)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)
