"""Adam (arXiv:1412.6980, Algorithm 1)."""

import jax.numpy as jnp

from .._math import abs_sq, adam_ratio, bias_correction, biased, debias, ema, eps_beside_hat, nesterov_mean
from .._rule import At, MomentEstimates, Moments, Rule, Slot, static
from .._typing import Array, Beta, NonNegative


class Adam(Rule[Moments]):
    r"""Adam: the mean of the gradient, in units of the root of its mean square.

    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2$$
    $$\hat m_t = m_t / (1-\beta_1^t) \qquad \hat v_t = v_t / (1-\beta_2^t) \qquad
      u_t = \hat m_t / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean, $\beta_1$.
        b2: decay rate of the mean square, $\beta_2$.
        eps: $\varepsilon$, in units of the gradient; 0 is allowed, a zero gradient then still gives a zero step.
        eps_root: $\bar\varepsilon$ inside the root; positive values make the step differentiable at zero gradients.
        nesterov: look one step ahead, $\hat m_t = \beta_1 m_t/(1-\beta_1^{t+1}) + (1-\beta_1) g_t/(1-\beta_1^t)$.
        bias_correction: whether the hats are taken; if not, $u_t = m_t/(\sqrt{v_t + \bar\varepsilon}+\varepsilon)$.
        eps_hat: read `eps` and `eps_root` as those of the paper's efficient form (end of section 2), constant beside
            the *uncorrected* $\sqrt{v_t}$, as TensorFlow 1 and Keras do; `eps` then weighs $1/\sqrt{1-\beta_2^t}$ more.

    Reference: Kingma & Ba, arXiv:1412.6980, Algorithm 1; nesterov: Dozat, ICLR 2016 workshop, with constant $\beta_1$.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    nesterov: bool = static(default=False)
    bias_correction: bool = static(default=True)
    eps_hat: bool = static(default=False)
    elementwise = True
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        hat = debias if self.bias_correction else biased
        m_hat, v_hat = hat(mu, self.b1, at.t), hat(nu, self.b2, at.t)
        if self.nesterov:
            m_hat = nesterov_mean(mu, g, self.b1, at.t, hat)
        eps, eps_root = self.eps, self.eps_root
        if self.eps_hat and self.bias_correction:
            eps, eps_root = eps_beside_hat(eps, self.b2, at.t), debias(eps_root, self.b2, at.t)
        return adam_ratio(m_hat, v_hat, eps, eps_root), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        if not self.bias_correction:
            return MomentEstimates(eps=self.eps)
        eps = eps_beside_hat(self.eps, self.b2, t) if self.eps_hat else self.eps
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), eps, (self.b1, self.b2))

    @property
    def eps_place(self) -> str:
        """Beside which root ε stands."""
        if not self.bias_correction:
            return "√v + ε"
        return "√v + ε̂" if self.eps_hat else "√v̂ + ε"

    @property
    def corrected_averages(self) -> str:
        """Both or none."""
        return "m, v" if self.bias_correction else "none"
