"""AdaBelief (arXiv:2010.07468)."""

import jax.numpy as jnp

from .._math import abs_sq, adam_ratio, bias_correction, debias, ema, nesterov_mean
from .._rule import At, MomentEstimates, Moments, Rule, Slot, static
from .._typing import Array, Beta, NonNegative


class AdaBelief(Rule[Moments]):
    r"""Adam in units of the gradient's surprise: its distance from its own mean.

    $$s_t = \beta_2 s_{t-1} + (1-\beta_2)(g_t - m_t)^2 + \bar\varepsilon \qquad
      u_t = \hat m_t / (\sqrt{\hat s_t} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean squared surprise.
        eps: added to the root, in units of the gradient.
        eps_root: $\bar\varepsilon$, added to the average at every step, where it *accumulates* to
            $\bar\varepsilon / (1-\beta_2)$.
        nesterov: look one step ahead with the mean, as `Adam` does.

    Reference: Zhuang et al., arXiv:2010.07468, Algorithm 2, and the official code.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-16
    eps_root: NonNegative = 1e-16
    nesterov: bool = static(default=False)
    elementwise = True
    eps_place = "√v̂ + ε, v + ε"
    corrected_averages = "m, v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g - mu), self.b2) + self.eps_root
        m_hat = debias(mu, self.b1, at.t)
        if self.nesterov:
            m_hat = nesterov_mean(mu, g, self.b1, at.t)
        return adam_ratio(m_hat, debias(nu, self.b2, at.t), self.eps), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)
