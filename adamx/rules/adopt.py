"""ADOPT (arXiv:2411.02853)."""

import jax.numpy as jnp

from .._math import abs_sq, div_no_nan, ema, sign
from .._rule import At, Moments, Rule, Slot, static
from .._typing import Array, Beta, NonNegative


def fourth_root(count: Array) -> Array:
    r"""$(t-1)^{1/4}$, of the finished steps $t-1$: what the paper clips to."""
    return jnp.asarray(count).astype(float) ** 0.25


class ADOPT(Rule[Moments]):
    r"""Adam that measures each gradient by the second moment *before* it, which makes it converge for every b2.

    $$n_t = \mathrm{clip}\Big(\frac{g_t}{\max(\sqrt{v_{t-1}}, \varepsilon)}, \pm c_t\Big) \qquad
      u_t = m_t = \beta_1 m_{t-1} + (1-\beta_1) n_t \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2$$

    with $c_t = (t-1)^{1/4}$. The first call takes no step: it sets $v_1 = g_1^2$. Nothing is corrected for bias.

    Attributes:
        b1: decay rate of the momentum.
        b2: decay rate of the mean square.
        eps: the least root, in units of the gradient.
        weight_decay: λ, decoupled; here and not outside, because the first call does not decay either.
        nesterov: look one step ahead with the momentum.
        use_clipping: whether the rescaled gradient is clipped.
        clip_value_fn: $c_t$, as a schedule of the finished steps or a number.

    Reference: Taniguchi et al., arXiv:2411.02853, Algorithm 2, and the official code.
    """

    b1: Beta = 0.9
    b2: Beta = 0.9999
    eps: NonNegative = 1e-6
    weight_decay: NonNegative = 0.0
    nesterov: bool = static(default=False)
    use_clipping: bool = static(default=True)
    clip_value_fn: NonNegative = fourth_root
    elementwise = True
    eps_place = "max(√v, ε)"
    corrected_averages = "none"
    slots = Moments(mu=Slot(unit=lambda s: jnp.ones_like(s.nu)), nu=Slot(nonnegative=True))

    def step(self, g: Array, s: Moments, at: At) -> tuple[Array, Moments]:
        first = at.t == 1
        n = div_no_nan(g, jnp.maximum(jnp.sqrt(s.nu), self.eps))
        if self.use_clipping:
            n = jnp.where(jnp.abs(n) > self.clip_value_fn, self.clip_value_fn * sign(n), n)
        mu = jnp.where(first, s.mu, ema(s.mu, n, self.b1))
        nu = jnp.where(first, abs_sq(g), ema(s.nu, abs_sq(g), self.b2))
        u = ema(mu, n, self.b1) if self.nesterov else mu
        return jnp.where(first, 0 * g, u + at.decay(self.weight_decay)), Moments(mu, nu)
