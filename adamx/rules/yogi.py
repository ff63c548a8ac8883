"""Yogi (NeurIPS 2018)."""

import functools

import jax.numpy as jnp

from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._rule import At, MomentEstimates, Moments, Rule, Slot
from .._typing import Array, Beta, Initial, NonNegative


class Yogi(Rule[Moments]):
    r"""Adam whose second moment moves by steps of its own size instead of a share of its distance.

    $$v_t = v_{t-1} - (1-\beta_2)\,\mathrm{sign}(v_{t-1} - g_t^2)\,g_t^2 \qquad
      u_t = \hat m_t / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the second moment.
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.
        initial_accumulator_value: $v_0$. Optax starts the mean there, too, which pushes every weight at first.

    The correction for bias is Optax's; the paper has none.

    Reference: Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS 2018, Algorithm 2.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-3
    eps_root: NonNegative = 0.0
    initial_accumulator_value: Initial = 1e-6
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "m, v"

    def _slots(self) -> Moments:
        start = functools.partial(jnp.full_like, fill_value=self.initial_accumulator_value)
        return Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(init=start, nonnegative=True))

    slots = property(_slots)

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        square = abs_sq(g)
        nu = s.nu - (1 - self.b2) * jnp.sign(s.nu - square) * square
        m_hat, v_hat = debias(mu, self.b1, at.t), debias(nu, self.b2, at.t)
        return adam_ratio(m_hat, v_hat, self.eps, self.eps_root), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)
