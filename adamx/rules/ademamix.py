"""AdEMAMix (arXiv:2409.03137) and its simplified form (arXiv:2502.02431)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._rule import At, MomentEstimates, Moments, Rule, Slot
from .._typing import Array, Beta, NonNegative


class MixedMoments(NamedTuple):
    """A fast and a slow mean of the gradient, and its mean square."""

    mu: Any
    mu_slow: Any
    nu: Any


class AdEMAMix(Rule[MixedMoments]):
    r"""Adam with a second, much slower mean added to its own.

    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t \qquad s_t = \beta_3 s_{t-1} + (1-\beta_3) g_t \qquad
      u_t = (\hat m_t + \alpha s_t) / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$$

    The slow mean is not corrected for bias. From the start it would lead astray: warm $\alpha$ and $\beta_3$ up with
    `schedules.ademamix_alpha` and `schedules.ademamix_b3`.

    Attributes:
        b1: decay rate of the fast mean.
        b2: decay rate of the mean square.
        b3: decay rate of the slow mean.
        alpha: weight of the slow mean; 2 to 10 (8 in the readme of the official code).
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.

    Reference: Pagliardini, Ablin & Grangier, arXiv:2409.03137, Algorithm 1.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    b3: Beta = 0.9999
    alpha: NonNegative = 5.0
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "fast m, v"
    slots = MixedMoments(
        mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), mu_slow=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True)
    )

    def step(self, g: Array, s: MixedMoments, at: At) -> tuple[Array, MixedMoments]:
        mu, mu_slow = ema(s.mu, g, self.b1), ema(s.mu_slow, g, self.b3)
        nu = ema(s.nu, abs_sq(g), self.b2)
        mixed = debias(mu, self.b1, at.t) + self.alpha * mu_slow
        u = adam_ratio(mixed, debias(nu, self.b2, at.t), self.eps, self.eps_root)
        return u, MixedMoments(mu, mu_slow, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)


class SimplifiedAdEMAMix(Rule[Moments]):
    r"""AdEMAMix with one slow momentum, and the gradient itself in place of the fast mean.

    $$m_t = \beta_1 m_{t-1} + g_t \qquad u_t = (m_t + \alpha g_t) / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$$

    The momentum is a sum, not a mean: about $1/(1-\beta_1)$ times larger, so step sizes are as many times smaller.

    Attributes:
        b1: decay rate of the momentum.
        b2: decay rate of the mean square.
        alpha: weight of the gradient; larger for small batches.
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.

    Reference: Morwani et al., arXiv:2502.02431.
    """

    b1: Beta = 0.99
    b2: Beta = 0.95
    alpha: NonNegative = 0.0
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        mu = self.b1 * s.mu + g
        nu = ema(s.nu, abs_sq(g), self.b2)
        u = adam_ratio(mu + self.alpha * g, debias(nu, self.b2, at.t), self.eps, self.eps_root)
        return u, Moments(mu, nu)
