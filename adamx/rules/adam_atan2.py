"""Adam-atan2 (arXiv:2407.05872)."""

import jax.numpy as jnp

from .._math import abs_sq, bias_correction, debias, ema, sign
from .._rule import At, MomentEstimates, Moments, Rule, Slot
from .._typing import Array, Beta, NonNegative


class AdamAtan2(Rule[Moments]):
    r"""Adam without an epsilon: the quotient goes through the arc tangent, which needs none.

    $$u_t = a\,\mathrm{atan2}(\hat m_t,\ b \sqrt{\hat v_t})$$

    Invariant to the gradient's scale as far as its square is a number (1e-19 to 1e19 in float32), and at most $a\pi/2$
    long. A complex step has the phase of $\hat m_t$.

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        a: scale of the step; 1.27, about $4/\pi$, makes $u_t = 1$ where $\hat m_t = \sqrt{\hat v_t}$.
        b: scale of the root.

    Reference: Everett et al., arXiv:2407.05872; a and b as in the adam-atan2-pytorch package.
    """

    b1: Beta = 0.9
    b2: Beta = 0.99
    a: NonNegative = 1.27
    b: NonNegative = 1.0
    elementwise = True
    eps_place = "none"
    corrected_averages = "m, v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        m_hat, root = debias(mu, self.b1, at.t), jnp.sqrt(debias(nu, self.b2, at.t))
        return self.a * jnp.arctan2(jnp.abs(m_hat), self.b * root) * sign(m_hat), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t))
