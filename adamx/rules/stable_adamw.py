"""StableAdamW (arXiv:2304.13013, Algorithm 2)."""

import jax.numpy as jnp

from .._math import abs_sq, adam_ratio, bias_correction, debias, ema, rms
from .._rule import At, MomentEstimates, Moments, Rule, Slot
from .._typing import Array, Beta, NonNegative


class StableAdamW(Rule[Moments]):
    r"""AdamW that shortens a leaf's step while its second moment lags behind its gradients.

    $$\mathrm{RMS}_t = \sqrt{\mathrm{mean}\big(g_t^2 / \max(\hat v_t, \varepsilon^2)\big)} \qquad
      u_t = \frac{1}{\max(1, \mathrm{RMS}_t)} \Big(\frac{\hat m_t}{\sqrt{\hat v_t} + \varepsilon} + \lambda p\Big)$$

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        weight_decay: λ; here and not outside, because it is shortened, too.

    Reference: Wortsman et al., arXiv:2304.13013, Algorithm 2.
    """

    b1: Beta = 0.9
    b2: Beta = 0.99
    eps: NonNegative = 1e-6
    weight_decay: NonNegative = 0.0
    eps_place = "√v̂ + ε"
    corrected_averages = "m, v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))
    elementwise = False

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        v_hat = debias(nu, self.b2, at.t)
        u = adam_ratio(debias(mu, self.b1, at.t), v_hat, self.eps) + at.decay(self.weight_decay)
        lag = rms(adam_ratio(g, jnp.maximum(v_hat, self.eps**2), 0.0))
        return u / jnp.maximum(1, lag), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps, (self.b1, self.b2))
