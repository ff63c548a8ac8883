"""AdaMax (arXiv:1412.6980, Algorithm 2)."""

import jax.numpy as jnp

from .._math import bias_correction, biased, debias, div_no_nan, ema
from .._rule import At, MomentEstimates, Moments, Rule, Slot, static
from .._typing import Array, Beta, NonNegative


class AdaMax(Rule[Moments]):
    r"""AdaMax: the mean of the gradient, in units of its exponentially forgotten maximum.

    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t \qquad \nu_t = \max(\beta_2 \nu_{t-1}, |g_t| + \varepsilon) \qquad
      u_t = \frac{m_t}{(1-\beta_1^t)\,\nu_t}$$

    $\nu$, which the paper calls $u$, is the limit of Adam's for an $L^p$ norm with $p \to \infty$ and needs no
    correction.

    Attributes:
        b1: decay rate of the mean, $\beta_1$.
        b2: decay rate of the maximum, $\beta_2$.
        eps: $\varepsilon$, in units of the gradient. The paper has none, and so divides 0 by 0 until the first
            gradient that is not zero; with `eps=0` the step is its formula, and zero there.
        eps_outside: add `eps` to $\nu_t$ where it divides instead, as Keras and Lasagne do.
        bias_correction: whether the mean is corrected; MLX does not.

    Reference: Kingma & Ba, arXiv:1412.6980, Algorithm 2 (there with step size .002).
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    eps_outside: bool = static(default=False)
    bias_correction: bool = static(default=True)
    elementwise = True
    eps_place = property(lambda self: "ν + ε" if self.eps_outside else "max(β₂ν, abs(g) + ε)")
    corrected_averages = property(lambda self: "m" if self.bias_correction else "none")
    slots = Moments(mu=Slot(unit=lambda s: s.nu), nu=Slot(nonnegative=True))

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        inside, outside = (0.0, self.eps) if self.eps_outside else (self.eps, 0.0)
        nu = jnp.maximum(self.b2 * s.nu, jnp.abs(g) + inside)
        m_hat = (debias if self.bias_correction else biased)(mu, self.b1, at.t)
        return div_no_nan(m_hat, nu + outside), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t) if self.bias_correction else 1.0, is_root=True)
